package process

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Build compiles cmd/fedmesh of the repository at repoRoot into outDir and
// returns the path of the binary. Further arguments go to go build, such as
// -race.
func Build(ctx context.Context, repoRoot, outDir string, args ...string) (binary string, err error) {
	binary, err = filepath.Abs(filepath.Join(outDir, "fedmesh"))
	if err != nil {
		return "", fmt.Errorf("process: %w", err)
	}
	full := append([]string{"build", "-o", binary}, args...)
	cmd := exec.CommandContext(ctx, "go", append(full, "./cmd/fedmesh")...)
	cmd.Dir = repoRoot
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("process: build fedmesh in %s: %w\n%s", repoRoot, err, strings.TrimSpace(string(out)))
	}
	return binary, nil
}
