// Package check holds the files under examples/ against the rules of those who read them: systemd and Kubernetes. It has tests only.
package check
