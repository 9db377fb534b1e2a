package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"receiver/webhook"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var fields []string
		for _, digits := range strings.Split(lines.Text(), ":") {
			field, err := hex.DecodeString(digits)
			if err != nil {
				panic(err)
			}
			fields = append(fields, string(field))
		}
		scheme, secret, id, timestamp, signature, body := fields[0], fields[2], fields[3], fields[4], fields[5], []byte(fields[6])
		now := time.Now()
		if fields[1] != "" {
			seconds, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				panic(err)
			}
			now = time.Unix(seconds, 0)
		}
		var genuine bool
		if scheme == "body" {
			genuine = webhook.VerifyBody(secret, signature, body)
		} else {
			genuine = webhook.Verify(secret, id, timestamp, signature, body, now)
		}
		if genuine {
			fmt.Println("ok")
		} else {
			fmt.Println("refused")
		}
	}
}
