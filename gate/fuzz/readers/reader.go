// Says what a body means to Go's encoding/json, read into structs as servers do it, which ignores the case of keys; or with
// an argument, what targets or a URI mean to its net/url. What is asked, and the answers, are preceded by their length, as
// four bytes.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"sort"
	"strings"
	"unicode/utf8"
)

type message struct {
	Version *string         `json:"jsonrpc"`
	ID      any             `json:"id"`
	Method  *string         `json:"method"`
	Params  json.RawMessage `json:"params"`
	Result  json.RawMessage `json:"result"`
	Error   json.RawMessage `json:"error"`
}

type named struct {
	Name      *string `json:"name"`
	Arguments any     `json:"arguments"`
}

type located struct {
	URI *string `json:"uri"`
}

type completion struct {
	Ref struct {
		Type string  `json:"type"`
		Name *string `json:"name"`
		URI  *string `json:"uri"`
	} `json:"ref"`
}

type listening struct {
	Notifications struct {
		Resources []*string `json:"resourceSubscriptions"`
	} `json:"notifications"`
}

func canonical(value any) string {
	switch value := value.(type) {
	case nil:
		return "-"
	case *string:
		if value == nil {
			return "-"
		}
		return canonical(*value)
	case bool:
		return map[bool]string{true: "t", false: "f"}[value]
	case string:
		return `"` + hex.EncodeToString([]byte(value)) + `"`
	case float64:
		if value == 0 { // -0 is 0
			value = 0
		}
		return fmt.Sprintf("n%016x", math.Float64bits(value))
	case []any:
		var items []string
		for _, item := range value {
			items = append(items, canonical(item))
		}
		return "[" + strings.Join(items, ",") + "]"
	case map[string]any:
		var pairs []string
		for key, item := range value {
			pairs = append(pairs, canonical(key)+":"+canonical(item))
		}
		sort.Strings(pairs)
		return "{" + strings.Join(pairs, ",") + "}"
	}
	panic("no such value")
}

func subject(kind string, name *string) any {
	return []any{kind, name}
}

func read(params json.RawMessage, into any) error {
	if params == nil {
		return nil
	}
	return json.Unmarshal(params, into)
}

func meaning(body []byte) string {
	if !json.Valid(body) {
		return "!invalid"
	}
	var message message
	if json.Unmarshal(body, &message) != nil {
		return "!mistyped"
	}
	var method string
	if message.Method != nil {
		method = *message.Method
	}
	subjects := []any{}
	var arguments any
	var err error
	switch method {
	case "tools/call", "prompts/get":
		var params named
		err = read(message.Params, &params)
		kind := map[string]string{"tools/call": "Tool", "prompts/get": "Prompt"}[method]
		subjects, arguments = append(subjects, subject(kind, params.Name)), params.Arguments
	case "resources/read", "resources/subscribe", "resources/unsubscribe":
		var params located
		err = read(message.Params, &params)
		subjects = append(subjects, subject("Resource", params.URI))
	case "completion/complete":
		var params completion
		err = read(message.Params, &params)
		if params.Ref.Type == "ref/prompt" {
			subjects = append(subjects, subject("Prompt", params.Ref.Name))
		} else {
			subjects = append(subjects, subject("Resource", params.Ref.URI))
		}
	case "subscriptions/listen":
		var params listening
		err = read(message.Params, &params)
		for _, uri := range params.Notifications.Resources {
			subjects = append(subjects, subject("Resource", uri))
		}
	}
	if err != nil {
		return "!mistyped"
	}
	parts := []string{canonical(message.Method), canonical(message.ID), canonical(subjects), canonical(arguments)}
	return strings.Join(parts, " ")
}

// The paths of request targets, as servers read them.
func targets(text []byte) string {
	var paths []string
	for _, target := range strings.Split(string(text), " ") {
		read, err := url.ParseRequestURI(target)
		if err != nil {
			paths = append(paths, "!invalid")
			continue
		}
		paths = append(paths, hex.EncodeToString([]byte(read.EscapedPath())))
	}
	return strings.Join(paths, " ")
}

// How the URI of a resource is spelled for servers that compare it.
func spellings(text []byte) string {
	var spelled []string
	plain, err := url.PathUnescape(string(text))
	if err != nil || !utf8.ValidString(plain) {
		return "!invalid"
	}
	spelled = append(spelled, hex.EncodeToString([]byte(plain)))
	// What it writes is more encoded than anybody compares, and lacks delimiters of nothing, by which nobody looks.
	if read, err := url.Parse(string(text)); err == nil {
		written, err := url.PathUnescape(read.String())
		if err == nil && len(written) == len(plain) {
			spelled = append(spelled, hex.EncodeToString([]byte(written)))
		}
	}
	return strings.Join(spelled, " ")
}

func main() {
	say := meaning
	switch os.Args[1] {
	case "targets":
		say = targets
	case "uris":
		say = spellings
	}
	source, target := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	for {
		var length uint32
		if binary.Read(source, binary.BigEndian, &length) != nil {
			return
		}
		body := make([]byte, length)
		if _, err := io.ReadFull(source, body); err != nil {
			return
		}
		answer := say(body)
		binary.Write(target, binary.BigEndian, uint32(len(answer)))
		target.WriteString(answer)
		if source.Buffered() == 0 {
			target.Flush()
		}
	}
}
