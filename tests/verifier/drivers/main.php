<?php

// As strict as an application can be: a warning is an error.
declare(strict_types=1);
set_error_handler(fn (int $level, string $message) => throw new ErrorException($message));

require 'verify.php';

while (($line = fgets(STDIN)) !== false) {
    [$scheme, $now, $secret, $id, $timestamp, $signature, $body] = array_map('hex2bin', explode(':', rtrim($line, "\n")));
    $genuine = match (true) {
        $scheme === 'body' => verifyWebhookBody($secret, $signature, $body),
        $now === '' => verifyWebhook($secret, $id, $timestamp, $signature, $body),
        default => verifyWebhook($secret, $id, $timestamp, $signature, $body, (int) $now),
    };
    echo $genuine ? "ok\n" : "refused\n";
}
