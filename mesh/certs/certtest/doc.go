// Package certtest makes authorities and certificates for tests.
//
//	ca, err := certtest.NewCA("mesh")
//	…
//	pair, err := ca.Issue(certtest.Cert{Hosts: []string{"127.0.0.1"}})
//	…
//	files, err := pair.Write(t.TempDir(), "a")
package certtest
