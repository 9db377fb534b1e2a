;; A plugin, the canonical ABI by hand. `{…}` are the places that a test fills.
(component
  (import "revnoxa:webhook/log@{version}" (instance $log
    (type $cases (enum "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $cases)))
    (export "log" (func (param "level" $level) (param "message" string)))))
  {imports}

  ;; In a module of its own, so that functions of the host can be lowered before the main module is there.
  (core module $Memory
    (memory (export "memory") {memory})
    (global $free (mut i32) (i32.const 4096))
    (func (export "realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
      {realloc}))
  (core instance $memory (instantiate $Memory))
  (alias core export $memory "memory" (core memory $memory))
  (alias core export $memory "realloc" (core func $realloc))
  (core func $log (canon lower (func $log "log") (memory $memory)))
  (core instance $host (export "log" (func $log)))
  {lowered}

  (core module $Main
    (import "memory" "memory" (memory 0))
    (import "host" "log" (func $log (param $level i32) (param $message i32) (param $length i32)))
    {core_imports}
    ;; The answer stands at 16; up to 4096 is for whoever needs it.
    (func $deliver (param $body i32) (param $length i32) (param $headers i32) (param $count i32) (result i32)
      (i32.store8 (i32.const 16) (i32.const 0))
      (i32.store8 (i32.const 20) (i32.const 0))
      (i32.store (i32.const 24) (local.get $body))
      (i32.store (i32.const 28) (local.get $length))
      (i32.store (i32.const 32) (local.get $headers))
      (i32.store (i32.const 36) (local.get $count))
      (i32.const 16))
    (func $drop (param $reason i32) (param $length i32) (result i32)
      (i32.store8 (i32.const 16) (i32.const 0))
      (i32.store8 (i32.const 20) (i32.const 1))
      (i32.store (i32.const 24) (local.get $reason))
      (i32.store (i32.const 28) (local.get $length))
      (i32.const 16))
    (func $fail (param $message i32) (param $length i32) (result i32)
      (i32.store8 (i32.const 16) (i32.const 1))
      (i32.store (i32.const 20) (local.get $message))
      (i32.store (i32.const 24) (local.get $length))
      (i32.const 16))
    {core}
    (func (export "handle")
      (param $id i32) (param $id_length i32) (param $type i32) (param $type_length i32)
      (param $tenant i32) (param $tenant_length i32) (param $timestamp i64) (param $body i32) (param $body_length i32)
      (param $headers i32) (param $header_count i32) (param $settings i32) (param $settings_length i32) (result i32)
      (local $n i32)
      {handle})
    (func (export "post-return") (param $answer i32)
      {post_return}))
  (core instance $main
    (instantiate $Main (with "memory" (instance $memory)) (with "host" (instance $host)) {with}))

  (type $header (record (field "name" string) (field "value" string)))
  (type $event (record (field "id" string) (field "type" string) (field "tenant" string) (field "timestamp-ms" s64)
    (field "body" (list u8)) (field "headers" (list $header))))
  (type $request (record (field "body" (list u8)) (field "headers" (list $header))))
  (type $verdict (variant (case "deliver" $request) (case "drop" string)))
  (alias core export $main "post-return" (core func $post-return))
  (func $handle (param "event" $event) (param "settings" string) (result (result $verdict (error string)))
    (canon lift (core func $main "handle") (memory $memory) (realloc (core func $realloc))
      (post-return (core func $post-return))))
  ;; A function is exported with the names of its types by way of a component.
  (component $Handler
    (type $header' (record (field "name" string) (field "value" string)))
    (import "header" (type $header (eq $header')))
    (type $event' (record (field "id" string) (field "type" string) (field "tenant" string) (field "timestamp-ms" s64)
      (field "body" (list u8)) (field "headers" (list $header))))
    (import "event" (type $event (eq $event')))
    (type $request' (record (field "body" (list u8)) (field "headers" (list $header))))
    (import "request" (type $request (eq $request')))
    (type $verdict' (variant (case "deliver" $request) (case "drop" string)))
    (import "verdict" (type $verdict (eq $verdict')))
    (import "handle" (func $handle
      (param "event" $event) (param "settings" string) (result (result $verdict (error string)))))
    (type $Header' (record (field "name" string) (field "value" string)))
    (export $Header "header" (type $Header'))
    (type $Event' (record (field "id" string) (field "type" string) (field "tenant" string) (field "timestamp-ms" s64)
      (field "body" (list u8)) (field "headers" (list $Header))))
    (export $Event "event" (type $Event'))
    (type $Request' (record (field "body" (list u8)) (field "headers" (list $Header))))
    (export $Request "request" (type $Request'))
    (type $Verdict' (variant (case "deliver" $Request) (case "drop" string)))
    (export $Verdict "verdict" (type $Verdict'))
    (export "handle" (func $handle)
      (func (param "event" $Event) (param "settings" string) (result (result $Verdict (error string))))))
  (instance $handler (instantiate $Handler (with "header" (type $header)) (with "event" (type $event))
    (with "request" (type $request)) (with "verdict" (type $verdict)) (with "handle" (func $handle))))
  (export "revnoxa:webhook/handler@{version}" (instance $handler))
  {outside})
