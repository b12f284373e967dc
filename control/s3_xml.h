/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The few texts that are needed of an S3 answer, found by their tags. No document is built, nothing is
 * followed or expanded but the five entities that XML has by itself and numbers. Pure; any thread.
 */
#ifndef CONTROL_S3_XML_H
#define CONTROL_S3_XML_H

#include <stdbool.h>
#include <stddef.h>

/* A piece of an answer. */
struct s3_xml {
	const char *at;
	size_t len;
};

/*
 * The content of the first <tag> in xml, attributes allowed; *rest (may be NULL) is what stands behind
 * its end. false: there is none, or it does not end.
 */
bool s3_xml_find(struct s3_xml xml, const char *tag, struct s3_xml *content, struct s3_xml *rest);

/*
 * The text of the first <tag>, entities decoded, into out. false: none, it holds other elements, an
 * unknown entity, a NUL or a control character, or is longer than size - 1 bytes; out is then "".
 */
bool s3_xml_text(struct s3_xml xml, const char *tag, char *out, size_t size);

/* The outermost element is tag. A document type declaration before it, or anything strange: false. */
bool s3_xml_is(struct s3_xml xml, const char *tag);

#endif
