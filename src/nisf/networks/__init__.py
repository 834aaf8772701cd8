"""Networks and their parts as plain functions of tensors: two fields, an encoder, a finder, losses."""
