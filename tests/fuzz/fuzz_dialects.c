/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Bodies of the four dialects. The first byte chooses which; what is accepted names ports that
 * there are, and what a dialect wants to show again is JSON.
 */
#include "fuzz.h"

#include <string.h>

#include "api/citrix_json.h"
#include "api/cloudflare_json.h"
#include "api/mist_json.h"
#include "api/nsx_json.h"

#define NOW_NS 1700000000000000000ULL

static struct config *config;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	config = fuzz_config();
	return 0;
}

static void refusal_check(int rc, const struct err *err)
{
	fuzz_check(rc < 0 && rc == -err->code && err->text[0] != '\0');
}

static void echo_check(const char *echo)
{
	struct err err = {0};
	json_t *json;

	if (echo == NULL)
		return;
	json = json_parse(echo, strlen(echo), &err);
	fuzz_check(json_is_object(json));
	json_decref(json);
}

static void ports_check(const uint8_t *ports, unsigned n)
{
	fuzz_check(n >= 1 && n <= config->n_ports);
	for (unsigned i = 0; i < n; i++)
		fuzz_check(ports[i] < config->n_ports);
}

/* What a destination has become can be part of a key without being encoded. */
static void destination_check(const struct cloudflare_destination *destination)
{
	const char *directory = destination->directory;

	fuzz_check(
		destination->bucket[0] != '\0' && strpbrk(destination->bucket, "/@:#?%") == NULL);
	fuzz_check(directory[0] != '/' && strpbrk(directory, "@:#?%\\") == NULL);
	fuzz_check(strstr(directory, "//") == NULL && strcmp(directory, "..") != 0 &&
		   strncmp(directory, "../", 3) != 0 && strstr(directory, "/../") == NULL);
}

static void bucket_try(const char *text, size_t size, bool validate)
{
	struct cloudflare_bucket bucket;
	struct err err = {0};
	int rc = cloudflare_bucket_decode(text, size, validate, &bucket, &err);

	if (rc != 0)
		refusal_check(rc, &err);
	else
		destination_check(&bucket.destination);
}

static void cloudflare_try(const char *text, size_t size, enum config_deliver deliver)
{
	struct cloudflare_request request = {0};
	struct session_spec spec = {0};
	struct err err = {0};
	int rc = cloudflare_create_decode(
		text, size, &config->accounts[0], deliver, NOW_NS, &request, &err);

	if (rc != 0) {
		refusal_check(rc, &err);
		return;
	}
	if (deliver == CONFIG_DELIVER_BUCKET && request.type == CLOUDFLARE_FULL)
		destination_check(&request.destination);
	cloudflare_spec(&request, 100, &spec);
	fuzz_check(spec.limit_ns != 0);
	echo_check(request.echo);
	free(request.echo);
}

static void nsx_try(const char *text, size_t size, enum nsx_family family)
{
	struct nsx_request request = {0}, again = {0};
	struct session_spec spec = {0};
	struct err err = {0};
	int rc = nsx_request_decode(text, size, family, config, &request, &err);
	char *vendor;

	if (rc != 0) {
		refusal_check(rc, &err);
		return;
	}
	nsx_spec(&request, &spec);
	vendor = nsx_vendor(&request, "id");
	echo_check(vendor);
	fuzz_check(nsx_vendor_decode(vendor, config, &again, &err) == 0);
	fuzz_check(strcmp(again.filter, request.filter) == 0);
	nsx_request_free(&again);
	nsx_request_free(&request);
	free(vendor);
}

static void citrix_try(const char *text, size_t size)
{
	struct citrix_capture capture = {0};
	struct err err = {0};
	const char *name, *secret;
	json_t *document = NULL;
	int rc = citrix_capture_decode(text, size, config, "default", &capture, &err);

	if (rc != 0) {
		refusal_check(rc, &err);
	} else {
		ports_check(capture.ports, capture.n_ports);
		echo_check(capture.echo);
		citrix_capture_release(&capture);
	}
	err = (struct err){0};
	rc = citrix_login_decode(text, size, &name, &secret, &document, &err);
	if (rc != 0) {
		refusal_check(rc, &err);
	} else {
		fuzz_check(name != NULL && secret != NULL);
	}
	json_decref(document);
}

static void mist_try(const char *text, size_t size, bool organisation)
{
	struct mist_capture capture = {0};
	struct err err = {0};
	json_t *document = NULL;
	const char *notes;
	int rc = mist_capture_decode(
		text, size, config, &config->accounts[0], organisation, &capture, &err);

	if (rc != 0) {
		refusal_check(rc, &err);
	} else {
		ports_check(capture.ports, capture.n_ports);
		echo_check(capture.echo);
		mist_capture_release(&capture);
	}
	err = (struct err){0};
	mist_notes_decode(text, size, &notes, &document, &err);
	json_decref(document);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (size == 0)
		return 0;
	text = fuzz_text(data + 1, size - 1);
	switch (data[0] % 6) {
	case 0:
		cloudflare_try(text, size - 1, CONFIG_DELIVER_LOCAL);
		cloudflare_try(text, size - 1, CONFIG_DELIVER_BUCKET);
		bucket_try(text, size - 1, false);
		bucket_try(text, size - 1, true);
		break;
	case 1:
	case 2:
		nsx_try(text, size - 1, data[0] % 6 == 1 ? NSX_MANAGER : NSX_POLICY);
		break;
	case 3:
		citrix_try(text, size - 1);
		break;
	default:
		mist_try(text, size - 1, data[0] % 6 == 5);
	}
	free(text);
	return 0;
}
