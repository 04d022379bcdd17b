// Go's own client: PROXY CA URL...; prints a line for each fetch: seconds to the first byte, and the page. PROXY is "-" for none.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"time"
)

func client() *http.Client {
	pem, err := os.ReadFile(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	if os.Args[1] != "-" {
		proxy, err := url.Parse(os.Args[1])
		if err != nil {
			log.Fatal(err)
		}
		transport.Proxy = http.ProxyURL(proxy)
	}
	return &http.Client{Transport: transport}
}

func fetch(from *http.Client, page string) {
	began := time.Now()
	response, err := from.Get(page)
	if err != nil {
		log.Fatal(err)
	}
	seconds := time.Since(began).Seconds()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	response.Body.Close()
	fmt.Printf("%f %s\n", seconds, text)
}

func main() {
	for _, page := range os.Args[3:] {
		kept := client()
		fetch(kept, page)
		fetch(kept, page)
		fetch(client(), page)
	}
}
