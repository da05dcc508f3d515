package mask

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// deltas are the places in events of language models' APIs that hold a piece of a
// longer text: chat completions, completions, responses, messages. A value may be
// cut in two between two such events, so their texts are searched together.
var deltas = []string{
	"choices[*].delta.content", "choices[*].delta.reasoning_content", "choices[*].delta.refusal", "choices[*].delta.tool_calls[*].function.arguments", "choices[*].text",
	"delta", "delta.text", "delta.partial_json", "delta.thinking",
	"candidates[*].content.parts[*].text",
}

// plainData is the path of data that is a text itself, as it is or as a JSON string.
const plainData = "$"

// tailBytes is how much at the end of a text may be the beginning of a value with
// spaces in it.
const tailBytes = 96

// piece is a part of a longer text that an event holds.
type piece struct {
	channel    string
	text       []byte  // decoded
	at         viewMap // to the bytes from start on
	start, end int     // in the event's data
	data       viewMap // from there to the event, where it has several lines
	plain      bool    // text as it is, not inside JSON
}

// joined searches the texts whose pieces are in one event each, and holds the
// events back until their pieces are settled.
type joined struct {
	w        *walker
	limit    int // bytes of events, and of a text that is not settled
	channels map[string]*channel
	queue    []*heldEvent
	size     int // bytes in the queue
}

type heldEvent struct {
	unit  []byte
	edits []edit
	open  int // pieces not settled
}

// channel is one text.
type channel struct {
	text  []byte // what is not settled, after some context
	from  int    // where it begins
	whole int    // up to here what is not settled has no place to be parted at
	again int    // how long the text must be for another search to be worth it
	parts []channelPart
}

type channelPart struct {
	event *heldEvent
	piece
	off int // of the piece in text
}

// add takes an event with its edits and pieces, and returns what may leave.
func (j *joined) add(unit []byte, edits []edit, pieces []piece) ([]byte, error) {
	if len(pieces) == 0 && len(j.queue) == 0 {
		return apply(unit, edits), nil
	}
	e := &heldEvent{unit: bytes.Clone(unit), edits: slices.Clone(edits), open: len(pieces)}
	j.queue, j.size = append(j.queue, e), j.size+len(unit)
	if j.channels == nil {
		j.channels = map[string]*channel{}
	}
	for _, p := range pieces {
		c := j.channels[p.channel]
		if c == nil {
			if len(j.channels) >= maxChannels {
				return nil, fmt.Errorf("event stream with more than %d texts: %w", maxChannels, ErrTooLarge)
			}
			c = &channel{}
			j.channels[p.channel] = c
		}
		c.parts = append(c.parts, channelPart{e, p, len(c.text)})
		c.text = append(c.text, p.text...)
		if err := j.settle(c, false); err != nil {
			return nil, err
		}
	}
	if len(pieces) == 0 && ends(unit) {
		return j.end()
	}
	if j.size > j.limit {
		return nil, fmt.Errorf("events of more than %d bytes wait for the end of a value: %w", j.limit, ErrTooLarge)
	}
	return j.release(), nil
}

const maxChannels = 256

// ends tells whether an event says that the texts before it are at their ends.
func ends(unit []byte) bool {
	for _, sign := range []string{"[DONE]", `"content_block_stop"`, `"message_stop"`, `.done"`, `"finish_reason":"`, `"finish_reason": "`} {
		if bytes.Contains(unit, []byte(sign)) {
			return true
		}
	}
	return false
}

// end settles all texts: nothing comes after.
func (j *joined) end() ([]byte, error) {
	for _, c := range j.channels {
		if err := j.settle(c, true); err != nil {
			return nil, err
		}
	}
	clear(j.channels)
	return j.release(), nil
}

// release returns the events that wait for nothing any more.
func (j *joined) release() []byte {
	var out []byte
	n := 0
	for n < len(j.queue) && j.queue[n].open == 0 {
		e := j.queue[n]
		out = append(out, apply(e.unit, untangle(e.edits))...)
		j.size -= len(e.unit)
		n++
	}
	if n > 0 {
		j.queue = append(j.queue[:0], j.queue[n:]...)
	}
	return out
}

// settle hides what is found in a text, as far as what comes can't change it.
func (j *joined) settle(c *channel, last bool) error {
	w := j.w
	to := len(c.text)
	if !last {
		known := max(c.from, c.whole)
		if to = settled(c.text, known); to == known {
			c.whole, to = max(c.from, len(c.text)-tailBytes), c.from
		}
		// Each search reads all that is not settled, so there are few of a long one.
		if to == c.from || len(c.text) < c.again {
			return j.fits(c, c.from)
		}
	}
	seen, fold := w.folded.fold(c.text)
	for _, f := range w.matches(seen, true) {
		start, end := max(fold.start(f.start), c.from), fold.end(f.end)
		if end <= c.from {
			continue
		}
		if start >= to {
			break
		}
		if end > to || end == len(c.text) && !last {
			to = start // it may go on
			break
		}
		repl := w.m.conceal(w.ruleHow(f), f, f.in(seen))
		for _, p := range c.parts {
			a, b := max(start, p.off), min(end, p.off+len(p.text))
			if a >= b {
				continue
			}
			if !p.plain {
				repl = quote(repl)
			}
			p.event.edits = append(p.event.edits, edit{p.data.start(p.start + p.at.start(a-p.off)), p.data.end(p.start + p.at.end(b-p.off)), repl, f.kind()})
			repl = nil
		}
		w.report(w.rule(f), f.kind(), f.detail)
	}
	if w.fault != nil {
		return w.fault
	}
	if err := j.fits(c, to); err != nil {
		return err
	}
	n := 0
	for n < len(c.parts) && c.parts[n].off+len(c.parts[n].text) <= to {
		c.parts[n].event.open--
		n++
	}
	c.parts = append(c.parts[:0], c.parts[n:]...)
	keep := max(0, to-contextBytes)
	if len(c.parts) > 0 {
		keep = min(keep, c.parts[0].off) // a part is settled whole
	}
	for i := range c.parts {
		c.parts[i].off -= keep
	}
	c.whole, c.again = max(0, c.whole-keep), 0
	if to == c.from { // a value has begun that may go on
		if open := len(c.text) - to; open > 2<<10 {
			c.again = len(c.text) - keep + open/8
		}
	}
	c.text, c.from = append(c.text[:0], c.text[keep:]...), to-keep
	return nil
}

// fits tells whether what is not settled may be held.
func (j *joined) fits(c *channel, to int) error {
	if len(c.text)-to > j.limit {
		return fmt.Errorf("a value of more than %d bytes over several events: %w", j.limit, ErrTooLarge)
	}
	return nil
}

// settled is up to where a text can't be the beginning of a value: before its last
// words, and the word that they begin in. Scripts that write words together have a
// place between any two characters: long values are not in them.
func settled(text []byte, from int) int {
	to := max(from, len(text)-tailBytes)
	for to > from && to < len(text) && !utf8.RuneStart(text[to]) {
		to--
	}
	for to > from {
		r, n := utf8.DecodeLastRune(text[from:to])
		if r == ' ' || r == '\n' || r >= 0x2E80 && r < 0xFF00 {
			break
		}
		to -= n
	}
	return to
}

// textNames are how events name the text that they add to.
var textNames = regexp.MustCompile(`"(?:index|output_index|content_index|item_id)"\s*:\s*("[^"]{0,128}"|\d{1,9})`)

// channelsOf names the texts that an event's pieces belong to.
func channelsOf(unit []byte, pieces []piece) {
	if len(pieces) == 0 {
		return
	}
	var key strings.Builder
	for _, m := range textNames.FindAllSubmatch(unit, 16) {
		key.Write(m[1])
		key.WriteByte(' ')
	}
	seen := map[string]int{}
	for i := range pieces {
		path := pieces[i].channel
		pieces[i].channel = fmt.Sprintf("%s %d %s", path, seen[path], key.String())
		seen[path]++
	}
}
