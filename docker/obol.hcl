# The configuration of an Obol server: every option there is, with its default.
#
# Lines that begin with `#:` are options at their default or alternatives: remove the `#:` to use one.
# A key that is not listed here is refused when the server starts, with its line and column.
# Durations are written "90s", "1h30m", "768h" or as seconds; paths are relative to the working directory.

# Where everything is kept, encrypted.
storage "rocksdb" {
  path = "/var/lib/obol"
}
# In memory, for trying things out: everything is lost when the server stops.
# storage "inmem" {}

# Where clients connect. There may be several listeners.
listener "tcp" {
  # An IP address and a port; 0.0.0.0 is every interface.
  address = "0.0.0.0:8200"

  # The server's certificate (with the chain to its authority) and its private key, in PEM.
  # Both are read again on SIGHUP.
  tls_cert_file = "/etc/obol/tls/tls.crt"
  tls_key_file  = "/etc/obol/tls/tls.key"

  # To do without TLS, remove the two lines above and say so:
  # tls_disable = true

  # "tls12" or "tls13".
  #:  tls_min_version = "tls12"
  #:  tls_max_version = "tls13"

  # Authorities whose client certificates are accepted, and whether a client must show one.
  #:  tls_client_ca_file                 = "/etc/obol/tls/clients.crt"
  #:  tls_require_and_verify_client_cert = false

  # Bounds on what a client may send before anybody knows who it is.
  # The longest body in bytes.
  #:  max_request_size = 33554432
  # The request line and all headers in bytes. Kerberos tickets of users in many groups are large.
  #:  max_header_size = 262144
  # A JSON body: levels of nesting, keys and values altogether, bytes of one string.
  #:  max_json_depth               = 64
  #:  max_json_items               = 100000
  #:  max_json_string_value_length = 1048576
  # How long a client may take to send the headers, and a request altogether.
  #:  http_read_header_timeout = "10s"
  #:  max_request_duration     = "90s"
  # Requests at work at once; more are told to come back later.
  #:  max_in_flight = 4096
  # Whether /v1/sys/metrics answers without a token on this listener.
  #:  telemetry {
  #:    unauthenticated_metrics_access = false
  #:  }

  # Behind a proxy: peers (addresses or blocks) whose X-Forwarded-For is believed, and how many addresses at its right
  # end are proxies of your own. With the first one set, a request without the header, or one that has it from
  # another peer, is refused, unless the last two say false; then the peer itself is who the request comes from.
  #:  x_forwarded_for_authorized_addrs      = ["10.0.0.0/8", "192.0.2.7"]
  #:  x_forwarded_for_hop_skips             = 0
  #:  x_forwarded_for_reject_not_present    = true
  #:  x_forwarded_for_reject_not_authorized = true
}

# How the root key is kept. By default it is split into shares, of which people enter some at each start:
#:seal "shamir" {}
# Or the server unseals itself with a key of 32 bytes (raw, hexadecimal or base64) that it is given in a file
# or in an environment variable. To replace the key, name the old one as the previous one.
# seal "static" {
#   current_key_id  = "2026-07"
#   current_key     = "file:///run/secrets/obol-seal.key"
#   previous_key_id = "2026-01"
#   previous_key    = "env://OBOL_PREVIOUS_SEAL_KEY"
#   disabled        = false
# }

# The address that clients are told to use; by default the first listener's, where that is one.
#:api_addr = "https://obol.example.com:8200"

# The name of this installation, as its status shows it.
#:cluster_name = "obol"

# How long tokens and leases live when nothing else is said, and at most.
#:default_lease_ttl = "768h"
#:max_lease_ttl     = "768h"

# trace, debug, info, warn, error or off; standard (text) or json. SIGHUP applies a new level.
#:log_level  = "info"
#:log_format = "standard"

# Secrets in memory are kept from being swapped to disk; true turns that off, for systems that do not allow it.
#:disable_mlock = false

# Shows what is stored, decrypted, below sys/raw to who may use sudo there: for repairs. Leave it off.
#:raw_storage_endpoint = false

# Where the server writes its process id while it runs.
#:pid_file = "/run/obol/obol.pid"

# The page /ui/login, on each listener beside the API: it signs a browser in with its Kerberos ticket, and says what to
# do when that does not work. It has no rights of its own; false leaves the API alone.
#:ui = true

# After how many failed logins a name is locked, and for how long: for "all" of userpass, ldap and approle, or for one
# of them; a mount's user_lockout_config counts over this.
#:user_lockout "all" {
#:  lockout_threshold     = 5
#:  lockout_duration      = "15m"
#:  lockout_counter_reset = "15m"
#:  disable_lockout       = false
#:}

# What the server counts about itself, for Prometheus at /v1/sys/metrics?format=prometheus; a retention time of 0 turns
# that format off. Tokens and the like are counted once in a period; 0 for never. Names never hold the host's name.
#:telemetry {
#:  prometheus_retention_time = "24h"
#:  usage_gauge_period        = "10m"
#:  disable_hostname          = true
#:}
