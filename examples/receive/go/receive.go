// Receives the changes that Tidegate sends to an endpoint, and prints each once.
//
//	WEBHOOK_SECRET=whsec_… PORT=8085 go run .
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	maxBodyBytes = 1024 * 1024
	maxTaken     = 10_000
)

// Ids that were taken. A real receiver stores the id in one transaction with what it makes of the change, and keeps it for a day or longer.
type receiver struct {
	webhook *standardwebhooks.Webhook
	mutex   sync.Mutex
	taken   map[string]bool
	order   []string
}

func (r *receiver) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	rawBody, err := io.ReadAll(http.MaxBytesReader(response, request.Body, maxBodyBytes))
	if err != nil {
		response.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	// The signature is over the bytes as they came: check it before anything is parsed.
	if err := r.webhook.Verify(rawBody, request.Header); err != nil {
		response.WriteHeader(http.StatusUnauthorized)
		return
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	id := request.Header.Get("webhook-id")
	if !r.taken[id] {
		if err := apply(request.Header.Get("tidegate-key"), rawBody); err != nil {
			response.WriteHeader(http.StatusInternalServerError)
			return
		}
		r.remember(id)
	}
	response.WriteHeader(http.StatusNoContent)
}

// Changes of one key come one after the other.
func apply(key string, change json.RawMessage) error {
	line, err := json.Marshal(map[string]any{"key": key, "change": change})
	if err == nil {
		fmt.Println(string(line))
	}
	return err
}

func (r *receiver) remember(id string) {
	r.taken[id] = true
	r.order = append(r.order, id)
	if len(r.order) > maxTaken {
		delete(r.taken, r.order[0])
		r.order = r.order[1:]
	}
}

func main() {
	webhook, err := standardwebhooks.NewWebhook(os.Getenv("WEBHOOK_SECRET"))
	if err != nil {
		log.Fatal(err)
	}
	port := os.Getenv("PORT")
	if port == "" {
		port = "8085"
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening")
	log.Fatal(http.Serve(listener, &receiver{webhook: webhook, taken: map[string]bool{}}))
}
