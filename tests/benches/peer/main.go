// A customer's page by a minimal handler: one statement, and its columns as JSON. No keys, no audit log, no problem details.
//
// It listens on a port of its own choice, which it prints, and ends with its standard input.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

type customer struct {
	CustomerID pgtype.UUID     `json:"customer_id"`
	Email      *string         `json:"email"`
	Profile    json.RawMessage `json:"profile"`
	Provenance json.RawMessage `json:"provenance"`
	CreatedAt  time.Time       `json:"created_at"`
	UpdatedAt  time.Time       `json:"updated_at"`
	Version    int64           `json:"version"`
	DeletedAt  *time.Time      `json:"deleted_at"`
	Xrefs      json.RawMessage `json:"xrefs"`
	Lists      []string        `json:"lists"`
	Timeline   json.RawMessage `json:"timeline"`
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: peer DATABASE_URL STATEMENT")
	}
	pool, err := pgxpool.New(context.Background(), os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("GET /customers/{id}", func(w http.ResponseWriter, r *http.Request) {
		c, err := read(r.Context(), pool, os.Args[2], r.PathValue("id"))
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			http.NotFound(w, r)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		default:
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(c)
		}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	log.Fatal(http.Serve(listener, nil))
}

func read(ctx context.Context, pool *pgxpool.Pool, statement, id string) (customer, error) {
	var c customer
	row := pool.QueryRow(ctx, statement, id)
	err := row.Scan(&c.CustomerID, &c.Email, &c.Profile, &c.Provenance, &c.CreatedAt, &c.UpdatedAt, &c.Version, &c.DeletedAt,
		&c.Xrefs, &c.Lists, &c.Timeline)
	return c, err
}
