# A rule with everything.
name = "team"
path "secret/+/team-*" {
  capabilities        = ["create", "read", "list"] # why
  required_parameters = ["owner"]
  allowed_parameters  = { "owner" = ["a*", 1, true], "*" = [] }
  denied_parameters {
    "policies" = [["root"], { k = "v" }]
  }
  min_wrapping_ttl = "1s"
  max_wrapping_ttl = 90
}
path "/secret/private" { policy = "deny" }
