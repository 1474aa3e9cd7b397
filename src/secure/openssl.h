/* OpenSSL's headers. They declare a type ERR_STATE, the name of one of our error codes; nobody uses
 * the type, so it gets another name here. Include this, never <openssl/...> itself. */
#ifndef SHOAL_SECURE_OPENSSL_H
#define SHOAL_SECURE_OPENSSL_H

#define ERR_STATE openssl_error_state
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#undef ERR_STATE

#endif
