package aggregate_test

import (
	"bytes"
	"os"
	"os/exec"
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
	products := 0
	for line := range bytes.Lines(out) {
		// nothing, address and place, instruction, operands
		fields := bytes.Split(line, []byte("\t"))
		if len(fields) < 4 {
			continue
		}
		switch string(fields[2]) {
		case "FMULD", "FMULS":
			products++
		case "FMADDD", "FMADDS", "FMSUBD", "FMSUBS", "FNMADDD", "FNMADDS", "FNMSUBD", "FNMSUBS":
			t.Errorf("fused: %s", line)
		}
	}
	if products == 0 {
		t.Error("no product in the listing: is it one?")
	}
}
