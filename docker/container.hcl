# The image's own configuration. Mount yours over /etc/obol/obol.hcl; every option is in docker/obol.hcl.

storage "rocksdb" {
  path = "/var/lib/obol/data"
}

# Behind a proxy that ends TLS, or for a first look. Give it tls_cert_file and tls_key_file to speak TLS itself.
listener "tcp" {
  address     = "0.0.0.0:8200"
  tls_disable = true
}

log_format = "json"
