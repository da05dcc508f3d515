package endpoint

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/callgate/callgate/demo/endpoint/ordersv1"
)

const (
	maxOrders = 10_000
	maxItems  = 100 // of one order
)

// orders is the gRPC service's book of orders.
type orders struct {
	ordersv1.UnimplementedOrdersServer

	mu      sync.Mutex
	list    []*ordersv1.Order // oldest first; an order in it is never changed
	changed chan struct{}     // closed and replaced with each new order
}

func newOrders() *orders {
	placed := timestamppb.New(time.Date(2026, 1, 10, 9, 30, 0, 0, time.UTC))
	return &orders{changed: make(chan struct{}), list: []*ordersv1.Order{
		{
			Id: "o-1", Customer: "c-1", CustomerEmail: "ada@example.com", CardNumber: "4242 4242 4242 4242",
			Items: []*ordersv1.Item{{Sku: "lamp", Quantity: 1, UnitPrice: 12990}},
			Total: 12990, Currency: "EUR", Status: ordersv1.Status_STATUS_SHIPPED, Created: placed,
		},
		{
			Id: "o-2", Customer: "c-2", CustomerEmail: "ben@example.org", CardNumber: "5555 5555 5555 4444",
			Items: []*ordersv1.Item{{Sku: "book", Quantity: 2, UnitPrice: 4025}},
			Total: 8050, Currency: "GBP", Status: ordersv1.Status_STATUS_PAID, Created: placed,
		},
	}}
}

func (o *orders) GetOrder(_ context.Context, r *ordersv1.GetOrderRequest) (*ordersv1.Order, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, order := range o.list {
		if order.Id == r.GetId() {
			return order, nil
		}
	}
	return nil, status.Error(codes.NotFound, "there is no such order")
}

func (o *orders) CreateOrder(_ context.Context, r *ordersv1.CreateOrderRequest) (*ordersv1.Order, error) {
	switch {
	case r.GetCustomer() == "":
		return nil, status.Error(codes.InvalidArgument, "customer is required")
	case len(r.GetCurrency()) != 3:
		return nil, status.Error(codes.InvalidArgument, "currency must be an ISO 4217 code of three letters, such as EUR")
	case len(r.GetItems()) == 0 || len(r.GetItems()) > maxItems:
		return nil, status.Errorf(codes.InvalidArgument, "between 1 and %d items are required", maxItems)
	}
	order := &ordersv1.Order{
		Customer: r.GetCustomer(), CustomerEmail: r.GetCustomer() + "@example.com", CardNumber: r.GetCardNumber(),
		Currency: r.GetCurrency(), Status: ordersv1.Status_STATUS_PLACED, Created: timestamppb.Now(),
	}
	for _, item := range r.GetItems() {
		if item.GetQuantity() < 1 || item.GetQuantity() > 1000 || item.GetUnitPrice() < 0 || item.GetUnitPrice() > 1e12 {
			return nil, status.Error(codes.InvalidArgument, "quantity must be 1 to 1000 and unit_price 0 to 1e12")
		}
		order.Items = append(order.Items, proto.CloneOf(item))
		order.Total += int64(item.GetQuantity()) * item.GetUnitPrice()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.list) >= maxOrders {
		return nil, status.Errorf(codes.ResourceExhausted, "the book of orders is full with %d", maxOrders)
	}
	order.Id = fmt.Sprintf("o-%d", len(o.list)+1)
	o.list = append(o.list, order)
	close(o.changed)
	o.changed = make(chan struct{})
	return order, nil
}

func (o *orders) WatchOrders(r *ordersv1.WatchOrdersRequest, stream grpc.ServerStreamingServer[ordersv1.Order]) error {
	if r.GetLimit() < 0 {
		return status.Error(codes.InvalidArgument, "limit must not be negative")
	}
	seen := 0
	for sent := int32(0); ; {
		o.mu.Lock()
		fresh, changed := slices.Clone(o.list[seen:]), o.changed
		o.mu.Unlock()
		seen += len(fresh)
		for _, order := range fresh {
			if order.Customer != r.GetCustomer() {
				continue
			}
			if err := stream.Send(order); err != nil {
				return err
			}
			if sent++; sent == r.GetLimit() {
				return nil
			}
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}
