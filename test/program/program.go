// Package program compiles callgate for tests that run it as its users do.
package program

import (
	"fmt"
	"os"
	"os/exec"
)

// Build compiles callgate to a file, as a release is but for what args say. What
// `make build` compiled before is not compiled again.
func Build(to string, args ...string) error {
	args = append([]string{"build", "-trimpath", "-o", to}, args...)
	cmd := exec.Command("go", append(args, "github.com/callgate/callgate/cmd/callgate")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build callgate: %w\n%s", err, out)
	}
	return nil
}
