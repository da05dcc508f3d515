package extproc

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extproc/mask"
)

// maskers keeps compiled masks. Calls of one rule share one, whichever replica
// decided them, since what they carry is the mask itself.
type maskers struct {
	hashKey []byte
	custom  Detectors

	mu   sync.Mutex
	kept map[string]*mask.Masker
}

// maxMaskers bounds the compiled masks that are kept. There are about as many
// as there are combinations of mask rules in force; beyond the bound all are
// dropped, which costs one compilation each.
const maxMaskers = 1024

// get compiles the mask of a call, or returns nil where nothing is hidden.
func (m *maskers) get(meta call.Metadata) (*mask.Masker, error) {
	var roots, blobs []string
	switch meta.Protocol {
	case call.MCP, call.JSONRPC:
		// A path means the same for a tool as for a REST answer: it starts
		// at what the function returned, not at the envelope: also at what it
		// says of an error, or on its own account.
		roots = []string{"result", "result.structuredContent", "error.data", "params", "params.data"}
	case call.GraphQL:
		roots = []string{"data"}
	}
	if meta.Protocol == call.MCP && meta.Response.Binary != call.BinaryPass {
		blobs = []string{"result.content[*].data", "result.content[*].resource.blob", "result.contents[*].blob", "result.messages[*].content.data", "result.messages[*].content.resource.blob"}
	}
	return m.of(meta.Mask, roots, blobs, meta.Response.Texts)
}

// of compiles a mask for bodies whose documents begin at roots, with files in base64
// at blobs, and texts that go over several events at texts.
func (m *maskers) of(rules call.Mask, roots, blobs, texts []string) (*mask.Masker, error) {
	if len(rules.Rules) == 0 {
		return nil, nil
	}
	spec := mask.Spec{Rules: make([]mask.Rule, len(rules.Rules)), Roots: roots, Blobs: blobs, Texts: texts}
	for i, r := range rules.Rules {
		spec.Rules[i] = mask.Rule{Name: r.Name, Paths: r.Paths, Keys: r.Keys, Detect: r.Detect, How: r.How}
	}
	key, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("read mask: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if k, ok := m.kept[string(key)]; ok {
		return k, nil
	}
	options := mask.Options{HashKey: m.hashKey, Custom: map[string]*mask.Custom{}}
	for _, r := range spec.Rules {
		for _, ref := range r.Detect {
			if !strings.Contains(ref, "@") {
				continue
			}
			if m.custom != nil {
				options.Custom[ref] = m.custom.Detector(ref)
			}
			if options.Custom[ref] == nil {
				return nil, fmt.Errorf("the detector %s of this call's policy is not here; this replica has not got that policy", ref)
			}
		}
	}
	masker, err := mask.Compile(spec, options)
	if err != nil {
		return nil, fmt.Errorf("compile mask: %w", err)
	}
	if m.kept == nil || len(m.kept) >= maxMaskers {
		m.kept = map[string]*mask.Masker{}
	}
	m.kept[string(key)] = masker
	return masker, nil
}
