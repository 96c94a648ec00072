package aggregate_test

import (
	"os"
	"os/exec"
	"regexp"
	"testing"
)

// TestNoFusion: arm64 has instructions that round a·b + c once, and Go's compiler uses them wherever a product is added to without having
// been converted. Then amd64 and arm64 would have different models. It compiles the package, once: after that the compiler's output
// comes from the build cache.
func TestNoFusion(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles for another architecture")
	}
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command")
	}
	cmd := exec.CommandContext(t.Context(), tool, "build", "-gcflags=-S", "./...")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !regexp.MustCompile(`(?m)\tFMUL[DS]\t.*$`).Match(out) {
		t.Fatal("no product in the listing: is it one?")
	}
	for _, line := range regexp.MustCompile(`(?m)^.*\tFN?M(ADD|SUB)[DS]\t.*$`).FindAllString(string(out), -1) {
		t.Errorf("fused: %s", line)
	}
}
