package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/callgate/callgate/approvals/link"
)

// chromium starts a real browser, without scripts where a test says so.
func chromium(t *testing.T, scripts bool) context.Context {
	t.Helper()
	path := os.Getenv("CHROMIUM")
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil && path == "" {
			path = found
		}
	}
	if path == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("no browser: install Debian's chromium, or name one by CHROMIUM")
		}
		t.Skip("no browser: install Debian's chromium, or name one by CHROMIUM")
	}
	alloc, stop := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox,
		chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1100, 900), chromedp.Flag("disable-dev-shm-usage", true))...)
	t.Cleanup(stop)
	ctx, end := chromedp.NewContext(alloc)
	t.Cleanup(end)
	// The first run starts the browser, and its context ends it.
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	t.Cleanup(cancel)
	if _, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !scripts}); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// screen keeps a picture of the page where SCREENSHOTS names a folder.
func screen(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		t.Fatal(err)
	}
}

// do runs steps in the browser, and shows the page where one fails.
func do(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		at, _ := chromedp.Run(ctx, chromedp.Location())
		body, _ := chromedp.Run(ctx, chromedp.OuterHTML(chromedp.CSS("html")))
		t.Fatalf("%v at %s: %s", err, at, body)
	}
}

// read returns what an action finds.
func read[T any](t *testing.T, ctx context.Context, a chromedp.Action[T]) T {
	t.Helper()
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// text is what a page shows.
func text(t *testing.T, ctx context.Context) string {
	t.Helper()
	return read(t, ctx, chromedp.Text(chromedp.CSS("main")))
}

// links makes the links that the shared stack's messages would hold.
func links(t *testing.T) *link.Signer {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(shared.dir, "state", "console.key"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := link.New("http://"+shared.Addrs.Console, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func login(user string) chromedp.Action[chromedp.Void] {
	return chromedp.Steps(chromedp.WaitVisible(chromedp.CSS(`input[name=username]`)), chromedp.SendKeys(chromedp.CSS(`input[name=username]`), user), chromedp.SendKeys(chromedp.CSS(`input[name=password]`), user+"-demo-password"),
		chromedp.Click(chromedp.CSS(`button`)))
}

// A person decides in a real browser, without scripts, about a call that a real
// Envoy holds: from the link of a message over the login at the issuer.
func TestBrowser(t *testing.T) {
	for _, c := range []struct {
		name, button, says string
		scripts            bool
		status             int
	}{
		{"approve", "approve", "Your approval is recorded", false, 201},
		{"refuse", "deny", "Your refusal is recorded", true, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			done := make(chan answer, 1)
			go func() {
				a, err := shared.try(t.Context(), http1(), shared.agent, "POST", "/crm/refunds", bigRefund)
				if err != nil {
					a.body = err.Error()
				}
				done <- a
			}()
			id := held(t, shared)
			ctx := chromium(t, c.scripts)
			do(t, ctx, chromedp.Navigate(links(t).To(id, time.Now().Add(time.Hour))), login("bob"),
				chromedp.WaitVisible(chromedp.CSS(`form.decide`)))
			at, page := read(t, ctx, chromedp.Location()), text(t, ctx)
			if at != "http://"+shared.Addrs.Console+"/approvals/"+id || !strings.Contains(page, "alice through support-agent") || !strings.Contains(page, `"amount":500`) {
				t.Errorf("at %s: %s", at, page)
			}
			screen(t, ctx, c.name+"-1")
			do(t, ctx, chromedp.Navigate("http://"+shared.Addrs.Console+"/"), chromedp.WaitVisible(chromedp.CSS(`.calls`)))
			screen(t, ctx, c.name+"-0-list")
			do(t, ctx, chromedp.Click(chromedp.CSS(`.calls a[href="/approvals/`+id+`"]`)), chromedp.WaitVisible(chromedp.CSS(`form.decide`)),
				chromedp.SendKeys(chromedp.CSS(`#comment`), `known <b>customer</b>`), chromedp.Click(chromedp.CSS(`button[value=`+c.button+`]`)), chromedp.WaitNotPresent(chromedp.CSS(`#comment`)), chromedp.WaitVisible(chromedp.CSS(`form button[value=`+c.button+`]`)))
			confirm := text(t, ctx)
			if !strings.Contains(confirm, "this call?") || !strings.Contains(confirm, "known <b>customer</b>") || !strings.Contains(confirm, `"amount":500`) {
				t.Errorf("confirm: %s", confirm)
			}
			screen(t, ctx, c.name+"-2-confirm")
			if len(done) > 0 {
				t.Fatal("decided before the confirmation")
			}
			do(t, ctx, chromedp.Click(chromedp.CSS(`form button[value=`+c.button+`]`)), chromedp.WaitVisible(chromedp.CSS(`.note.good`)))
			after := text(t, ctx)
			if !strings.Contains(after, c.says) {
				t.Errorf("after: %s", after)
			}
			if a := <-done; a.status != c.status {
				t.Errorf("%d %s", a.status, a.body)
			}
			do(t, ctx, chromedp.Reload(), chromedp.WaitVisible(chromedp.CSS(`.steps`)))
			screen(t, ctx, c.name+"-3-after")
			// What a script, or a page in another site's frame, could take.
			got, err := chromedp.Call(ctx, network.GetCookies, network.GetCookiesParams{})
			if err != nil || len(got.Cookies) == 0 {
				t.Fatal(err, got)
			}
			for _, k := range got.Cookies {
				if strings.HasPrefix(k.Name, "__Host-callgate") && (!k.HTTPOnly || !k.Secure || k.SameSite != network.CookieSameSiteLax) {
					t.Errorf("cookie %+v", k)
				}
			}
			do(t, ctx, chromedp.Click(chromedp.CSS(`.who button`)), chromedp.WaitVisible(chromedp.CSS(`.problem`)))
			after = text(t, ctx)
			if !strings.Contains(after, "You are logged out") {
				t.Error(after)
			}
		})
	}
}

// Other sites in an approver's browser: a form that posts, a frame, a link.
func TestBrowserForeignPage(t *testing.T) {
	done := make(chan answer, 1)
	go func() {
		a, _ := shared.try(t.Context(), http1(), shared.agent, "POST", "/crm/refunds", bigRefund)
		done <- a
	}()
	id := held(t, shared)
	ctx := chromium(t, true)
	console := "http://" + shared.Addrs.Console
	do(t, ctx, chromedp.Navigate(console+"/approvals/"+id), login("bob"), chromedp.WaitVisible(chromedp.CSS(`form.decide`)))
	// The same fields as the own form, but for the token that only the page has.
	foreign := `<form method="post" action="` + console + `/approvals/` + id + `/decide"><input name="decision" value="approve"><input name="shown" value="x"><input name="token" value="x"><button>Win</button></form>
<iframe src="` + console + `/approvals/` + id + `"></iframe>`
	file := filepath.Join(t.TempDir(), "evil.html")
	if err := os.WriteFile(file, []byte(foreign), 0o600); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, chromedp.Navigate("file://"+file), chromedp.WaitVisible(chromedp.CSS(`button`)))
	framed := read(t, ctx, chromedp.Evaluate[string](`try { document.querySelector('iframe').contentDocument.body.innerText } catch (e) { 'refused' }`))
	do(t, ctx, chromedp.Click(chromedp.CSS(`button`)), chromedp.WaitVisible(chromedp.CSS(`.problem`)))
	body := text(t, ctx)
	if !strings.Contains(body, "from another site") && !strings.Contains(body, "not logged in") || strings.Contains(framed, "Your decision") {
		t.Errorf("frame %q, page %s", framed, body)
	}
	if len(done) > 0 {
		t.Error("decided")
	}
	if out, err := shared.cli(t, shared.bob, "approvals", "deny", id); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	<-done
}
