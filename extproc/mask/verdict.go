package mask

// verdict is the rule that hides a value and why; the zero value is none. It is
// copied for each value, so it is small and has no pointers.
type verdict struct {
	how  how
	of   detector // why: detPath, detKeyword, or a detector that goes by names
	is   valueSort
	rule int32
}

// valueSort is what paths tell of a value besides that it is hidden.
type valueSort uint8

const (
	isBlob  valueSort = 1 << iota // a file in base64
	isDelta                       // a piece of a longer text
)

// kind is what findings call it.
func (v verdict) kind() string { return typeOf(v.of) }

// by is the verdict of a rule.
func (m *Masker) by(rule int, of detector) verdict {
	return verdict{how: m.hows[rule], of: of, rule: int32(rule)}
}
