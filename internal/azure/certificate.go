package azure

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"go.step.sm/crypto/pemutil"
	"software.sslmate.com/src/go-pkcs12"
)

// parseCertificate reads a certificate with its chain and key: PEM, or PKCS#12
// with the ciphers of old and of OpenSSL 3. The password is that of the PKCS#12
// file or of the PEM key, "" if there is none. azidentity's own parser knows
// neither encrypted PEM nor PKCS#12 with SHA-256.
func parseCertificate(content []byte, password string) ([]*x509.Certificate, crypto.PrivateKey, error) {
	if block, _ := pem.Decode(content); block != nil {
		return parsePEM(content, password)
	}
	key, certificate, chain, err := pkcs12.DecodeChain(content, password)
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword) && password == "":
		return nil, nil, fmt.Errorf("the PKCS#12 file needs a password: set %s", settingCertificatePassword)
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return nil, nil, fmt.Errorf("%s is not the password of the PKCS#12 file", settingCertificatePassword)
	case err != nil:
		return nil, nil, fmt.Errorf("neither PEM nor PKCS#12 with one key and its certificate: %w", err)
	}
	return append([]*x509.Certificate{certificate}, chain...), key, nil
}

func parsePEM(content []byte, password string) (certificates []*x509.Certificate, key crypto.PrivateKey, err error) {
	for {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			break
		}
		switch {
		case block.Type == "CERTIFICATE":
			certificate, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, err
			}
			certificates = append(certificates, certificate)
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			if key != nil {
				return nil, nil, errors.New("more than one private key in PEM")
			}
			encrypted := block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["Proc-Type"] != ""
			if key, err = pemutil.ParseKey(pem.EncodeToMemory(block), pemutil.WithPassword([]byte(password))); err == nil {
				continue
			}
			switch {
			case encrypted && password == "":
				return nil, nil, fmt.Errorf("the private key needs a password: set %s", settingCertificatePassword)
			case encrypted:
				return nil, nil, fmt.Errorf("%s is not the password of the private key, or its cipher is not supported", settingCertificatePassword)
			}
			return nil, nil, err
		}
	}
	switch {
	case key == nil:
		return nil, nil, errors.New("no private key in PEM: the file needs the certificate and its key")
	case len(certificates) == 0:
		return nil, nil, errors.New("no certificate in PEM: the file needs the certificate and its key")
	}
	return certificates, key, nil
}
