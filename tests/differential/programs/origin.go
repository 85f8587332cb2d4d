// A server of Go's net/http that tells what it saw.
package main

import (
	"crypto/sha1"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"
)

func main() {
	var count atomic.Int64
	serve := func(answer http.ResponseWriter, request *http.Request) {
		number := count.Add(1)
		body, err := io.ReadAll(request.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		answer.Header().Set("X-Saw", fmt.Sprintf("%d|%s|%s|%s|%d|%x",
			number, request.Method, request.RequestURI, request.Host, len(body), sha1.Sum(body)))
	}
	if err := http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(serve)); err != nil {
		panic(err)
	}
}
