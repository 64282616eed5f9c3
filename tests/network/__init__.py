"""Discovery over a real network: namespaces that the tests make, real mDNS between them."""
