// Package certtest makes authorities and certificates for tests.
//
//	ca := certtest.NewCA("mesh")
//	files, err := ca.Issue(certtest.Cert{Hosts: []string{"127.0.0.1"}}).Write(t.TempDir(), "a")
package certtest
