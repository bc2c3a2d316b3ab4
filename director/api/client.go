package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// DefaultSocket is where a director listens for its own host.
const DefaultSocket = "/run/tunneldirector/api.sock"

// ClientOptions say which director to talk to, and as whom.
type ClientOptions struct {
	Socket    string // unix socket; default: DefaultSocket, if there is no URL
	URL       string // https://director1:8443
	TokenFile string // its first line is the token
	CAFile    string // PEM; default: the system's
}

// A Client talks to one director. It may be used by any number of goroutines.
type Client struct {
	http  *http.Client
	base  string
	token string
	where string // for errors
}

// NewClient reads the files that the options name; it does not connect.
func NewClient(o ClientOptions) (*Client, error) {
	c := &Client{base: "http://localhost", where: o.Socket}
	transport := &http.Transport{ForceAttemptHTTP2: true, ResponseHeaderTimeout: 0, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 10 * time.Second}
	c.http = &http.Client{Transport: transport}
	if o.URL == "" {
		if c.where == "" {
			c.where = DefaultSocket
		}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", c.where)
		}
	} else {
		u, err := url.Parse(o.URL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("director URL %q is not like https://director1:8443", o.URL)
		}
		c.base = strings.TrimSuffix(u.Scheme+"://"+u.Host+u.Path, "/")
		c.where = c.base
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the CA: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read the CA: %s holds no certificate in PEM", o.CAFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	if o.TokenFile != "" {
		data, err := os.ReadFile(o.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("read the token: %w", err)
		}
		line, _, _ := strings.Cut(string(data), "\n")
		if c.token = strings.TrimSpace(line); c.token == "" {
			return nil, fmt.Errorf("read the token: the first line of %s is empty", o.TokenFile)
		}
	}
	return c, nil
}

// send makes a request; the answer's body must be closed. An answer over 399 is an error, a *Problem where it is one.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, contentType string, body io.Reader) (*http.Response, error) {
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("ask the director: %w", err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		var uerr *url.Error
		if errors.As(err, &uerr) {
			err = uerr.Err // its text is the made-up URL of a socket
		}
		return nil, fmt.Errorf("ask the director at %s: %w", c.where, err)
	}
	if res.StatusCode < 400 {
		return res, nil
	}
	defer res.Body.Close()
	data, _ := io.ReadAll(io.LimitReader(res.Body, maxObject)) // what there is of it
	p := &Problem{}
	if json.Unmarshal(data, p) != nil || p.Title == "" {
		return nil, fmt.Errorf("ask the director at %s: %s, which is not how a director answers", c.where, res.Status)
	}
	p.RetryAfter, _ = strconv.Atoi(res.Header.Get("Retry-After")) // absent: 0
	return nil, p
}

// call sends one JSON object, or nothing, and reads one.
func call[T any](ctx context.Context, c *Client, method, path string, query url.Values, body any) (T, error) {
	var out T
	var reader io.Reader
	contentType := ""
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return out, fmt.Errorf("encode a %T: %w", body, err)
		}
		reader, contentType = bytes.NewReader(data), "application/json"
	}
	res, err := c.send(ctx, method, path, query, contentType, reader)
	if err != nil {
		return out, err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		return out, fmt.Errorf("read the director's answer to %s %s: %w", method, path, err)
	}
	return out, nil
}

// Tunnel reads one tunnel.
func (c *Client) Tunnel(ctx context.Context, id string) (TunnelState, error) {
	return call[TunnelState](ctx, c, http.MethodGet, "/v1/tunnels/"+url.PathEscape(id), nil, nil)
}

// PutTunnel creates or replaces a tunnel.
func (c *Client) PutTunnel(ctx context.Context, t Tunnel) (PutAnswer, error) {
	return call[PutAnswer](ctx, c, http.MethodPut, "/v1/tunnels/"+url.PathEscape(t.ID), nil, t)
}

// DeleteTunnel deletes a tunnel; generation 0: whatever is there.
func (c *Client) DeleteTunnel(ctx context.Context, id string, generation uint64) (DeleteAnswer, error) {
	q := url.Values{}
	if generation != 0 {
		q.Set("generation", strconv.FormatUint(generation, 10))
	}
	return call[DeleteAnswer](ctx, c, http.MethodDelete, "/v1/tunnels/"+url.PathEscape(id), q, nil)
}

// A TunnelFilter says which tunnels to list. Zero values let everything through.
type TunnelFilter struct {
	Service, RealServer, Endpoint, Inside, State, Owner, Group, Tenant, Placed, Learned string

	Labels []string // key=value, or key
	Limit  int      // of a page; 0: the director's default
}

func (f TunnelFilter) query() url.Values {
	q := url.Values{}
	for k, v := range map[string]string{
		"service": f.Service, "real_server": f.RealServer, "endpoint": f.Endpoint, "inside": f.Inside, "state": f.State,
		"owner": f.Owner, "group": f.Group, "tenant": f.Tenant, "placed": f.Placed, "learned": f.Learned,
	} {
		if v != "" {
			q.Set(k, v)
		}
	}
	for _, l := range f.Labels {
		q.Add("label", l)
	}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	return q
}

// TunnelPage reads one page; cursor is "" for the first one, then the page before's Next.
func (c *Client) TunnelPage(ctx context.Context, f TunnelFilter, cursor string) (TunnelList, error) {
	q := f.query()
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	return call[TunnelList](ctx, c, http.MethodGet, "/v1/tunnels", q, nil)
}

// Tunnels reads all pages. An error ends it.
func (c *Client) Tunnels(ctx context.Context, f TunnelFilter) iter.Seq2[TunnelState, error] {
	return func(yield func(TunnelState, error) bool) {
		for cursor := ""; ; {
			page, err := c.TunnelPage(ctx, f, cursor)
			if err != nil {
				yield(TunnelState{}, err)
				return
			}
			for _, t := range page.Tunnels {
				if !yield(t, nil) {
					return
				}
			}
			if cursor = page.Next; cursor == "" {
				return
			}
		}
	}
}

// Lookup asks what happens to a packet.
func (c *Client) Lookup(ctx context.Context, question Question) (Explanation, error) {
	return call[Explanation](ctx, c, http.MethodGet, "/v1/lookup", question.query(), nil)
}

func (question Question) query() url.Values {
	q := url.Values{}
	for k, v := range map[string]string{
		"src": question.Src, "dst": question.Dst, "tenant": question.Tenant, "proto": question.Proto, "fragment": question.Fragment,
		"src_port": port(question.SrcPort), "dst_port": port(question.DstPort), "src_mac": question.SrcMAC,
	} {
		if v != "" {
			q.Set(k, v)
		}
	}
	return q
}

func port(p uint16) string {
	if p == 0 {
		return ""
	}
	return strconv.Itoa(int(p))
}

// Status reads the director at a glance.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodGet, "/v1/status", nil, nil)
}

// Ready is nil if the director is ready, else says why not.
func (c *Client) Ready(ctx context.Context) error {
	_, err := call[Health](ctx, c, http.MethodGet, "/readyz", nil, nil)
	return err
}
