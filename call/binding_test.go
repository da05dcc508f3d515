package call

import "testing"

// An approval must not carry over to a call that differs in anything it is
// bound to, nor to one whose fields merely join to the same bytes.
func TestBindingDiffers(t *testing.T) {
	base := func() *Call {
		return &Call{
			Identity:   Identity{Issuer: "i", Subject: "s", Actors: []Actor{{Subject: "a"}}},
			Connection: "crm", Function: "refunds.create",
			Request: Request{Method: "POST", Authority: "crm", Path: "/refunds", Body: []byte(`{"a":1}`),
				Headers: Headers{{"content-type", "application/json"}}},
		}
	}
	want := base().Binding("v1")
	if base().Binding("v1") != want {
		t.Fatal("the same call has two bindings")
	}
	changes := map[string]func(*Call){
		"issuer":       func(c *Call) { c.Identity.Issuer = "j" },
		"subject":      func(c *Call) { c.Identity.Subject = "t" },
		"actor":        func(c *Call) { c.Identity.Actors[0].Subject = "b" },
		"actor gone":   func(c *Call) { c.Identity.Actors = nil },
		"connection":   func(c *Call) { c.Connection = "erp" },
		"function":     func(c *Call) { c.Function = "refunds.list" },
		"method":       func(c *Call) { c.Request.Method = "PUT" },
		"authority":    func(c *Call) { c.Request.Authority = "erp" },
		"path":         func(c *Call) { c.Request.Path = "/refunds?x" },
		"body":         func(c *Call) { c.Request.Body = []byte(`{"a": 1}`) },
		"content type": func(c *Call) { c.Request.Headers[0].Value = "text/plain" },
		"encoding":     func(c *Call) { c.Request.Headers = append(c.Request.Headers, Header{"content-encoding", "gzip"}) },
		"shifted":      func(c *Call) { c.Connection, c.Function = "crmr", "efunds.create" },
	}
	for name, change := range changes {
		c := base()
		change(c)
		if c.Binding("v1") == want {
			t.Errorf("%s: a changed call kept its binding", name)
		}
	}
	if base().Binding("v2") == want {
		t.Error("another policy version kept the binding")
	}
}
