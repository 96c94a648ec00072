// Package check holds the files under examples/ against the rules of those who read them: systemd, Kubernetes, Docker. It has tests only.
package check
