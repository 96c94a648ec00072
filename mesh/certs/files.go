package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxFile is how many bytes of a file are read: bundles of authorities are long.
const maxFile = 4 << 20

// Files names what a store is read from, all PEM. Cert and Key belong together; CA alone is enough for a client that shows no certificate.
type Files struct {
	Cert string // certificate, behind it those that lead to the authority
	Key  string // its private key, not encrypted
	CA   string // authorities trusted; empty: the system's
}

func (f Files) validate() error {
	switch {
	case f.Cert == "" && f.Key == "" && f.CA == "":
		return errors.New("certs: no files named")
	case f.Cert != "" && f.Key == "":
		return fmt.Errorf("certs: the certificate %s needs its key", f.Cert)
	case f.Cert == "" && f.Key != "":
		return fmt.Errorf("certs: the key %s needs its certificate", f.Key)
	}
	return nil
}

// content is what the files held at one moment.
type content struct{ cert, key, ca []byte }

func (c content) equal(o content) bool {
	return bytes.Equal(c.cert, o.cert) && bytes.Equal(c.key, o.key) && bytes.Equal(c.ca, o.ca)
}

func (f Files) read() (content, error) {
	var c content
	var faults []error
	for _, file := range []struct {
		path string
		into *[]byte
	}{{f.Cert, &c.cert}, {f.Key, &c.key}, {f.CA, &c.ca}} {
		if file.path == "" {
			continue
		}
		b, err := readFile(file.path)
		if err != nil {
			faults = append(faults, fmt.Errorf("certs: %w", err))
		}
		*file.into = b
	}
	return c, errors.Join(faults...)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return b, nil
}

// parse makes of the files' content what connections need.
func (f Files) parse(c content) (*state, error) {
	s := &state{content: c, peers: map[[32]byte]verdict{}}
	var faults []error
	if f.Cert != "" {
		pair, err := tls.X509KeyPair(c.cert, c.key)
		if err != nil {
			faults = append(faults, fmt.Errorf("certs: %s and %s: %w", f.Cert, f.Key, err))
		} else if pair.Leaf == nil {
			faults = append(faults, fmt.Errorf("certs: %s has no certificate of its own", f.Cert))
		}
		s.pair = &pair
	}
	if f.CA != "" {
		pool, err := parsePool(c.ca)
		if err != nil {
			faults = append(faults, fmt.Errorf("certs: %s: %w", f.CA, err))
		}
		s.roots = pool
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	s.servers = map[ClientAuth]*tls.Config{}
	for _, auth := range []ClientAuth{None, Request, Require} {
		s.servers[auth] = s.server(auth)
	}
	return s, nil
}

func parsePool(b []byte) (*x509.CertPool, error) {
	pool, n := x509.NewCertPool(), 0
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		n++
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", n, err)
		}
		pool.AddCert(cert)
	}
	if n == 0 {
		return nil, errors.New("no certificate of an authority in PEM")
	}
	return pool, nil
}
