// Package docker holds the Dockerfile and the compose file against the rules of those who read them. It has tests only.
package docker
