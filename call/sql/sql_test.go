package sql

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// show is a statement in one line.
func show(list []Statement) string {
	var parts []string
	for _, s := range list {
		text := fmt.Sprint(s.Kind())
		if len(s.Kinds) > 1 {
			text += fmt.Sprint(s.Kinds)
		}
		if len(s.Tables) > 0 {
			text += " on " + strings.Join(s.Tables, ",")
		}
		if len(s.Functions) > 0 {
			text += " calls " + strings.Join(s.Functions, ",")
		}
		if !s.Bounded {
			text += " unbounded"
		}
		if s.Limit >= 0 {
			text += fmt.Sprint(" limit ", s.Limit)
		}
		if s.ReadOnly() {
			text += " ro"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

// One line a case: what each dialect makes of a text; "-" is nothing.
func TestParse(t *testing.T) {
	for _, c := range []struct{ text, postgres, mysql, generic string }{
		{"select name from customers where id = 7", "select on customers ro", "", ""},
		{"SELECT a FROM s.t LIMIT 10", "select on s.t limit 10 ro", "", ""},
		{"select 1; drop table x", "select ro; ddl on x", "", ""},
		{"DrOp/**/TABLE x", "ddl on x", "", ""},
		{"truncate x", "ddl on x", "", ""},
		{"-- harmless\ndelete from x", "delete on x unbounded", "", ""},
		{"delete from x where 1=1", "delete on x unbounded", "", ""},
		{"update x set a=1 where true", "update on x unbounded", "", ""},
		{"delete from x where id=1", "delete on x", "", ""},
		{"insert into x select * from y", "insert[insert select] on x,y", "", ""},
		{"with x as (select 1) select * from x", "select ro", "", ""},
		{"with x as (delete from t where a=1 returning *) select * from x", "delete[select delete] on t", "-", "delete[select delete] on t"},
		// A name of WITH's stands for a table only where it holds.
		{"with s as (select * from s) select * from s", "select on s ro", "", ""},
		{"with recursive s as (select 1 union select * from s) select * from s", "select ro", "", ""},
		{"select * from s where exists (with s as (select 1) select * from s)", "select on s ro", "", ""},
		{"with a as (select * from b), b as (select 1) select * from a, b", "select on b ro", "", ""},
		{"with a as (select 1), b as (select * from a) select * from b", "select ro", "", ""},
		{"with s as (select 1) select * from x.s", "select on x.s ro", "", ""},
		{"select * from (with s as (select 1) select * from s) q, s", "select on s ro", "", ""},
		{"with s as (select 1) select * from (select * from s) q union select * from s", "select ro", "", ""},
		{"with s as (select 1) delete from s where a = 1", "delete[delete select] on s", "delete[delete select]", "delete[delete select] on s"},
		{"select * into copy from t", "select on copy,t", "-", "select on copy,t"},
		{"select a from t into outfile '/tmp/x'", "-", "select on t", "select on t"},
		{"select a from t for update", "select on t", "", ""},
		{"select pg_sleep(10), lo_import('/etc/passwd')", "select calls lo_import,pg_sleep ro", "", ""},
		{"SELECT load_file('/etc/passwd')", "select calls load_file ro", "", ""},
		{"copy t from program 'curl evil'", "copy on t", "-", "copy on t"},
		{"do $$ begin delete from t; end $$", "other", "-", "other"},
		{"explain select 1", "show[show select] ro", "", ""},
		{"explain analyze delete from t", "delete[show delete] on t unbounded", "", ""},
		{"grant all on t to bob", "dcl on t", "dcl", "dcl on t"},
		{"call p(1)", "call calls p", "", ""},
		{"set role admin", "set", "-", "set"},
		{"begin", "transaction", "", ""},
		{"select 'it''s; drop table x'", "select ro", "", ""},
		{"select $$; drop table x$$", "select ro", "select ro; ddl on x$$", "-"},
		// What one database takes for a comment or a string, another runs.
		{"/*!50000 drop table x */", "-", "ddl on x", "ddl on x"},
		{"select 1 /*!; drop table x */", "select ro", "select ro; ddl on x", "-"},
		{`select 'a\'; drop table x; -- '`, "select ro; ddl on x", "select ro", "-"},
		{"select 1 # ; drop table x", "-", "select ro", "select ro"},
		{"selеct 1", "-", "-", "-"}, // a Cyrillic е
		{"", "-", "-", "-"},
		{";;", "-", "-", "-"},
		{"-- nothing", "-", "-", "-"},
		{"select 1\x00; drop table x", "-", "-", "-"},
		{"not sql at all", "-", "-", "-"},
	} {
		for dialect, want := range map[Dialect]string{Postgres: c.postgres, MySQL: c.mysql, Generic: c.generic} {
			if want == "" {
				want = c.postgres
			}
			got, err := Parse(dialect, c.text)
			if err != nil && !errors.Is(err, ErrUnreadable) {
				t.Errorf("%s %q: %v", dialect, c.text, err)
			}
			text := show(got)
			if err != nil {
				text = "-"
			}
			if text != want {
				t.Errorf("%s %q:\n got %s\nwant %s", dialect, c.text, text, want)
			}
		}
	}
}

func TestBounds(t *testing.T) {
	for name, text := range map[string]string{
		"too long":  "select '" + strings.Repeat("a", maxText) + "'",
		"not UTF-8": "select '\xff'",
	} {
		if got, err := Parse(Generic, text); err == nil {
			t.Errorf("%s: %s", name, show(got))
		} else if strings.Contains(err.Error(), "aaaa") {
			t.Errorf("%s: the error quotes the text", name)
		}
	}
	if _, err := Parse("oracle", "select 1"); err == nil || errors.Is(err, ErrUnreadable) {
		t.Errorf("an unknown dialect: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"select 1", "/*!1 drop table x*/", "with a as (delete from b returning *) select 1", "select 'a\\'b'", "create table t (a int)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, d := range []Dialect{Postgres, MySQL, Generic} {
			got, err := Parse(d, text)
			if err == nil && len(got) == 0 {
				t.Errorf("%s: no statement and no error", d)
			}
			for _, s := range got {
				if len(s.Kinds) == 0 {
					t.Errorf("%s: a statement of no kind", d)
				}
			}
		}
	})
}
