package browser_test

import (
	"context"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

var shots = flag.String("shots", "", "`folder` for screenshots; none are kept without")

// ample is time for what must happen, however slow the machine is.
const ample = 3 * time.Minute

//go:embed testdata/axe.min.js
var axe string

// chromium finds the browser: $CHROME, or what it is called in PATH.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("CHROME"), "chromium", "chromium-browser", "google-chrome", "chrome"} {
		if name == "" {
			continue
		}
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no Chromium in PATH and none named by $CHROME")
	return ""
}

// tab is a browser of one tab, and what its console said.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu      sync.Mutex
	console []string
}

func open(t *testing.T) *tab {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium(t)), chromedp.WSURLReadTimeout(ample), chromedp.Flag("force-color-profile", "srgb"), chromedp.Flag("hide-scrollbars", true))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox) // it refuses to be root with its sandbox
	}
	ctx, end := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(end)
	ctx, end = chromedp.NewContext(ctx)
	t.Cleanup(end)
	b := &tab{t: t, ctx: ctx}
	b.run() // starts the browser, which lives as long as this context
	messages := chromedp.Console(ctx)
	var reader sync.WaitGroup
	reader.Go(func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleWarning || m.IsException() {
				b.say(fmt.Sprintf("%s (%s:%d)", m, m.URL, m.Line))
			}
		}
	})
	t.Cleanup(func() {
		end()
		reader.Wait()
	})
	return b
}

func (b *tab) say(s string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.console = append(b.console, s)
}

// clean wants that the console has said nothing but what is expected, and forgets it.
func (b *tab) clean(expected ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
lines:
	for _, line := range b.console {
		for _, e := range expected {
			if strings.Contains(line, e) {
				continue lines
			}
		}
		b.t.Errorf("the console says %s", line)
	}
	b.console = nil
}

func (b *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, ample)
	defer cancel()
	if len(actions) == 0 {
		ctx = b.ctx
	}
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("browser: %v", err)
	}
}

// look opens a page, light or dark.
func (b *tab) look(url, scheme string) {
	b.t.Helper()
	b.run(size(1280, 900), prefers(scheme), chromedp.Navigate(url))
}

func size(width, height int64) chromedp.Action[chromedp.Void] {
	return chromedp.EmulateViewport(width, height)
}

func prefers(scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}})
		return err
	})
}

// eval evaluates an expression, waiting for promises.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, ample)
	defer cancel()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("browser: %.200s: %v", expression, err)
	}
	return out
}

// until waits until an expression is true.
func (b *tab) until(what, expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, ample)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
		if err == nil && ok {
			return
		}
		select {
		case <-ctx.Done():
			b.shot("failed")
			b.t.Fatalf("%s: not in time: %s (%v)\nthe page: %.700s", what, expression, err, strings.Join(strings.Fields(eval[string](b, "document.body.innerText")), " "))
		case <-tick.C:
		}
	}
}

// text is what an element shows.
func (b *tab) text(selector string) string {
	b.t.Helper()
	return eval[string](b, fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector))
}

// shot keeps a picture of the whole page.
func (b *tab) shot(name string) {
	b.t.Helper()
	if *shots == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	b.keep(name, png)
}

// tall makes the window as high as the page is, so that a picture shows all of it.
func (b *tab) tall(width int64) {
	b.t.Helper()
	b.run(size(width, 900))
	b.run(size(width, min(eval[int64](b, "document.documentElement.scrollHeight"), 6000)))
	eval[bool](b, "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(() => done(true)))))")
}

func (b *tab) keep(name string, png []byte) {
	b.t.Helper()
	if err := os.MkdirAll(*shots, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*shots, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// pictures keeps the page as it is now at two widths, light and dark.
func (b *tab) pictures(name string) {
	b.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{1280, 390} {
			b.run(prefers(scheme))
			b.tall(width)
			b.fits(width)
			b.shot(fmt.Sprintf("%s-%s-%d", name, scheme, width))
		}
	}
	b.run(prefers("light"), size(1280, 900))
}

// fits wants that nothing makes the page scroll sideways.
func (b *tab) fits(width int64) {
	b.t.Helper()
	if w := eval[int64](b, "document.documentElement.scrollWidth"); w > width {
		b.t.Errorf("the page is %d wide in a window of %d", w, width)
	}
}

// accessible checks the page with axe-core, light and dark.
func (b *tab) accessible(what string) {
	b.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		b.run(prefers(scheme))
		eval[bool](b, axe+";true")
		found := eval[[]byte](b, `axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]})
			.then(r => r.violations.map(v => ({id: v.id, help: v.help, nodes: v.nodes.slice(0, 3).map(n => n.html.slice(0, 200) + " " + (n.any[0]?.message ?? ""))})))`)
		var violations []struct {
			ID, Help string
			Nodes    []string
		}
		if err := json.Unmarshal(found, &violations); err != nil {
			b.t.Fatal(err)
		}
		for _, v := range violations {
			b.t.Errorf("%s, %s: %s: %s\n\t%s", what, scheme, v.ID, v.Help, strings.Join(v.Nodes, "\n\t"))
		}
	}
	b.run(prefers("light"))
}

// key presses keys, by the names that DOM events have.
func (b *tab) key(names ...string) {
	b.t.Helper()
	keys := map[string]string{
		"Tab": kb.Tab, "Enter": kb.Enter, "ArrowLeft": kb.ArrowLeft, "ArrowRight": kb.ArrowRight, "Home": kb.Home, "End": kb.End,
	}
	for _, n := range names {
		b.run(chromedp.KeyEvent(keys[n]))
	}
}

// typed types text into what has the focus, in place of what is selected there.
func (b *tab) typed(text string) {
	b.t.Helper()
	b.run(chromedp.KeyEvent(text))
}

func contains(s string, parts ...string) bool {
	s = strings.Join(strings.Fields(s), " ")
	for _, p := range parts {
		if !strings.Contains(s, strings.Join(strings.Fields(p), " ")) {
			return false
		}
	}
	return true
}
