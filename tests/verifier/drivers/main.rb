require_relative "verify"

$stdin.each_line(chomp: true) do |line|
  scheme, now, *headers, body = line.split(":", -1).map { |field| [field].pack("H*") }
  secret, id, timestamp, signature = headers.map { |header| header.force_encoding("UTF-8") }
  genuine = if scheme == "body"
    Webhook.verify_body(secret, signature, body)
  elsif now.empty?
    Webhook.verify(secret, id, timestamp, signature, body)
  else
    Webhook.verify(secret, id, timestamp, signature, body, now: Time.at(now.to_i))
  end
  puts genuine ? "ok" : "refused"
end
