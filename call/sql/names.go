package sql

// names are what the statements around a place call tables of their own (WITH),
// the innermost last.
type names []map[string]bool

func (n *names) enter() { *n = append(*n, map[string]bool{}) }
func (n *names) leave() { *n = (*n)[:len(*n)-1] }

func (n names) define(name string) { n[len(n)-1][name] = true }

func (n names) has(name string) bool {
	for _, scope := range n {
		if scope[name] {
			return true
		}
	}
	return false
}
