# Sends your endpoint a request signed like ours; WEBHOOK_SECRET holds the secret.
body='{"id":"evt_sample","type":"webhook.test","timestamp":"2026-01-01T00:00:00.000Z","data":{}}'
signature=$(printf %s "$body" | openssl dgst -sha256 -hmac "$WEBHOOK_SECRET" -r | cut -d ' ' -f 1)
curl -i {{url}} -H 'Content-Type: application/json' -H "X-Revnoxa-Signature: $signature" --data-binary "$body"
