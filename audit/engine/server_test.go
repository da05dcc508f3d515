package engine

import (
	"fmt"
	"testing"
)

func TestSmoke(t *testing.T) {
	s := run(t, t.TempDir())
	s.want(s.post("SELECT 1"), "1\n")
	fmt.Println(s.post("SELECT file('/etc/passwd')"))
	fmt.Println(s.post("SHOW DATABASES"))
	c := s.client()
	v, err := c.ServerVersion()
	fmt.Println(v, err)
	s.exec(c, "CREATE TABLE t (a UInt64) ENGINE=MergeTree ORDER BY a")
	fmt.Println(s.count(c, "SELECT count() FROM t"))
	fmt.Println(s.stderr)
}
