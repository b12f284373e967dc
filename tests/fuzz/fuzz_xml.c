/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What S3 says in XML, and the URLs that are asked: what is found lies within what was given, text fits
 * where it is put, and a URL holds only what may be signed.
 */
#include "fuzz.h"

#include <string.h>

#include "control/s3_url.h"
#include "control/s3_xml.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	return 0;
}

static void inside_check(struct s3_xml outer, struct s3_xml inner)
{
	fuzz_check(inner.at >= outer.at && inner.at + inner.len <= outer.at + outer.len);
}

static void xml_check(struct s3_xml xml)
{
	static const char *const tags[] = {"UploadId", "ETag", "Code", "Upload", "Key"};
	struct s3_xml content, rest = xml;
	char text[8];

	for (unsigned i = 0; i < sizeof(tags) / sizeof(tags[0]); i++)
		if (s3_xml_text(xml, tags[i], text, sizeof(text)))
			fuzz_check(memchr(text, '\0', sizeof(text)) != NULL);
	while (s3_xml_find(rest, "Upload", &content, &xml)) {
		inside_check(rest, content);
		inside_check(rest, xml);
		fuzz_check(xml.len < rest.len);
		rest = xml;
	}
	if (s3_xml_is(xml, "Error"))
		fuzz_check(!s3_xml_is(xml, "CompleteMultipartUploadResult"));
}

static void url_check(const char *text)
{
	static const struct config_bucket bucket = {
		.endpoint = "https://s3.example.net", .bucket = "caps"};
	const struct s3_query query[] = {{"prefix", text}, {"uploads", NULL}, {NULL, NULL}};
	char url[S3_URL_MAX];
	int len = s3_url(&bucket, text, query, url, sizeof(url));

	if (len < 0)
		return;
	fuzz_check((size_t)len == strlen(url));
	fuzz_check(strncmp(url, "https://s3.example.net/caps", 27) == 0);
	for (const char *at = url; *at != '\0'; at++)
		fuzz_check(strchr("%?=&:/-._~", *at) != NULL || (*at >= '0' && *at <= '9') ||
			   (*at >= 'A' && *at <= 'Z') || (*at >= 'a' && *at <= 'z'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size);

	xml_check((struct s3_xml){.at = text, .len = size});
	url_check(text);
	free(text);
	return 0;
}
