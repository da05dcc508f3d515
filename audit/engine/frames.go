package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/go-faster/city"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// A frame of ClickHouse's own compression is a checksum of 16 bytes over the
// rest, then the method, the length of method, lengths and data, the length
// of the data once unpacked (both 32 bits, little endian), and the data.
const (
	frameChecksum = 16
	frameHeader   = frameChecksum + 9
	// maxFrame bounds both lengths, as ClickHouse's clients do: a client packs
	// a whole block into one frame.
	maxFrame = 128 << 20

	methodNone = 0x02
	methodLZ4  = 0x82
	methodZSTD = 0x90
)

// frameReader unpacks frames. Every length is believed only up to maxFrame,
// and only as far as the bytes really come.
type frameReader struct {
	r      io.Reader
	zstd   *zstd.Decoder
	header [frameHeader]byte
	packed []byte
	out    []byte
	rest   []byte // of out, not yet read
}

func newFrameReader(r io.Reader) *frameReader { return &frameReader{r: r} }

// Close frees what unpacking took.
func (f *frameReader) Close() error {
	if f.zstd != nil {
		f.zstd.Close()
	}
	return nil
}

func (f *frameReader) Read(p []byte) (int, error) {
	for len(f.rest) == 0 {
		if err := f.frame(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// frame reads the next one; it returns io.EOF only between two frames.
func (f *frameReader) frame() error {
	if n, err := io.ReadFull(f.r, f.header[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return refuse(codeCannotReadAllData, "The compressed body ends inside a frame's header (%d of %d bytes)", n, frameHeader)
		}
		return err
	}
	packed := int64(binary.LittleEndian.Uint32(f.header[frameChecksum+1:])) - (frameHeader - frameChecksum)
	size := int64(binary.LittleEndian.Uint32(f.header[frameChecksum+5:]))
	if packed < 0 || packed > maxFrame || size > maxFrame {
		return refuse(codeTooLarge, "A compressed frame says it has %d bytes that unpack to %d; %d are allowed", packed, size, maxFrame)
	}
	f.packed = append(f.packed[:0], f.header[frameChecksum:]...)
	// Growing with what arrives: a header alone must not cost its promise.
	var err error
	if f.packed, err = readInto(f.packed, f.r, packed); err != nil {
		if errors.Is(err, io.EOF) {
			return refuse(codeCannotReadAllData, "The compressed body ends inside a frame")
		}
		return err
	}
	sum := city.CH128(f.packed)
	if sum.Low != binary.LittleEndian.Uint64(f.header[0:8]) || sum.High != binary.LittleEndian.Uint64(f.header[8:16]) {
		return refuse(codeChecksum, "Checksum doesn't match: the compressed body is corrupted")
	}
	data := f.packed[frameHeader-frameChecksum:]
	switch method := f.header[frameChecksum]; method {
	case methodNone:
		if int64(len(data)) != size {
			return refuse(codeDecompress, "An uncompressed frame has %d bytes and says %d", len(data), size)
		}
		f.rest = data
		return nil
	case methodLZ4:
		// LZ4 can't pack more than 255 to 1.
		if size > packed*255+64 {
			return refuse(codeDecompress, "An LZ4 frame of %d bytes can't hold %d", packed, size)
		}
		f.out = grow(f.out, size)
		n, err := lz4.UncompressBlock(data, f.out)
		if err != nil || int64(n) != size {
			return refuse(codeDecompress, "Cannot decompress an LZ4 frame of %d bytes to the %d it says", packed, size)
		}
	case methodZSTD:
		if f.zstd == nil {
			d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxFrame))
			if err != nil {
				return fmt.Errorf("start ZSTD: %w", err)
			}
			f.zstd = d
		}
		var err error
		if f.out, err = f.zstd.DecodeAll(data, f.out[:0]); err != nil || int64(len(f.out)) != size {
			return refuse(codeDecompress, "Cannot decompress a ZSTD frame of %d bytes to the %d it says", packed, size)
		}
	default:
		return refuse(codeDecompress, "Unknown compression method 0x%02x in a frame: LZ4, ZSTD and NONE are known", method)
	}
	f.rest = f.out
	return nil
}

func grow(b []byte, n int64) []byte {
	if int64(cap(b)) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// readInto appends exactly n bytes, or returns io.EOF if they don't come.
func readInto(b []byte, r io.Reader, n int64) ([]byte, error) {
	const step = 1 << 20
	for n > 0 {
		k := min(n, step)
		at := len(b)
		if cap(b)-at < int(k) {
			b = append(b, make([]byte, k)...)
		}
		b = b[:at+int(k)]
		if _, err := io.ReadFull(r, b[at:]); err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				err = io.EOF
			}
			return b, err
		}
		n -= k
	}
	return b, nil
}
