package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// collect takes what is posted, and prints it.
func collect(ctx context.Context, listen string) error {
	var mu sync.Mutex
	server := &http.Server{Addr: listen, ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		_, _ = os.Stdout.Write(text)
	})}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.ListenAndServe(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}
