storage "rocksdb" { path = "/var/lib/obol" }
listener "tcp" {
  address     = "127.0.0.1:8200"
  tls_disable = true
}
seal "static" {
  current_key_id = "1"
  current_key    = "env://KEY"
}
max_lease_ttl = "768h"
