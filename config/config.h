/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The daemon's configuration as the rest of the program sees it: validated, with units, immutable
 * after config_load. Every option is a row of options.def; ini.c is the only file that knows inih.
 * Control thread, at start.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "config/err.h"

#define CONFIG_PORTS_MAX    16
#define CONFIG_ACCOUNTS_MAX 64
#define CONFIG_BUCKETS_MAX  32
#define CONFIG_CPUS_MAX     32
#define CONFIG_LIST_MAX     32
#define CONFIG_NAME_MAX     64  /* with the final NUL */
#define CONFIG_TEXT_MAX     512 /* with the final NUL */

enum config_hugepages { CONFIG_HUGEPAGES_AUTO, CONFIG_HUGEPAGES_YES, CONFIG_HUGEPAGES_NO };
enum config_poll { CONFIG_POLL_AUTO, CONFIG_POLL_ALWAYS, CONFIG_POLL_WANTED };
enum config_when_full { CONFIG_WHEN_FULL_DELETE_OLDEST, CONFIG_WHEN_FULL_REFUSE };
enum config_on_full { CONFIG_ON_FULL_STOP, CONFIG_ON_FULL_WAIT };
/* of storage.spare_bytes */
#define CONFIG_SPARE_NO   0
#define CONFIG_SPARE_AUTO UINT64_MAX

enum config_tls_client {
	CONFIG_TLS_CLIENT_OFF,
	CONFIG_TLS_CLIENT_WANTED,
	CONFIG_TLS_CLIENT_REQUIRED
};
enum config_measure { CONFIG_MEASURE_AUTO, CONFIG_MEASURE_NO };
enum config_overload { CONFIG_OVERLOAD_REPORT, CONFIG_OVERLOAD_REFUSE, CONFIG_OVERLOAD_DEGRADE };
enum config_degrade { CONFIG_DEGRADE_SNAPLEN, CONFIG_DEGRADE_SAMPLING };
enum config_deliver { CONFIG_DELIVER_LOCAL, CONFIG_DELIVER_BUCKET };
enum config_style { CONFIG_STYLE_PATH, CONFIG_STYLE_HOST };
enum config_nsx_format { CONFIG_NSX_PCAP, CONFIG_NSX_PCAPNG };

/* A comma-separated list. */
struct config_list {
	unsigned n;
	char item[CONFIG_LIST_MAX][CONFIG_NAME_MAX];
};

/* A part of storage.quota. */
struct config_share {
	unsigned percent; /* 0 = bytes holds */
	uint64_t bytes;
};

struct config_cpus {
	unsigned n;
	unsigned cpu[CONFIG_CPUS_MAX];
};

/* [port NAME]; exactly one of interface and device is not empty. */
struct config_port {
	char name[CONFIG_NAME_MAX];
	char interface[CONFIG_NAME_MAX]; /* kernel interface, never "auto": resolved by config_load */
	char device[CONFIG_TEXT_MAX];    /* PCI address or devargs: "net_pcap0,rx_pcap=F" */
	unsigned rx_queues;
	unsigned mtu;
	unsigned snaplen_bytes;
	enum config_poll poll; /* never AUTO after config_load */
	uint64_t rate_pps;     /* 0 = max */
};

/* [account NAME] */
struct config_account {
	char name[CONFIG_NAME_MAX];
	char id[CONFIG_NAME_MAX];      /* 32 lower-case hex digits, or "" */
	char site_id[CONFIG_NAME_MAX]; /* UUID, or "" */
	char org_id[CONFIG_NAME_MAX];
	char colo[CONFIG_NAME_MAX];
	struct config_list ports; /* names; one item "*" = all */
	struct config_share quota;
};

/* [bucket NAME]: object storage that captures may be delivered to */
struct config_bucket {
	char name[CONFIG_NAME_MAX];     /* as users say it */
	char bucket[CONFIG_NAME_MAX];   /* as the service calls it; never "" after config_load */
	char endpoint[CONFIG_TEXT_MAX]; /* https://HOST[:PORT], or http:// with insecure */
	char region[CONFIG_NAME_MAX];
	enum config_style style;
	bool insecure;
	char credentials[CONFIG_TEXT_MAX]; /* file; read anew for each upload */
	char ca[CONFIG_TEXT_MAX];          /* PEM file; "" = the system's */
	struct config_list accounts;       /* names; one item "*" = all */
	char prefix[CONFIG_TEXT_MAX];      /* before what the user asks for; no / at either end */
	uint64_t part_bytes;               /* 0 = auto */
	bool keep;                         /* the local file, after the object was verified */
	bool remove;                       /* the object, when the capture is deleted */
	struct config_list allow;          /* networks that are not public: ADDRESS/BITS */
	uint64_t timeout_ms;
	uint64_t give_up_ms; /* 0 = never */
};

struct config {
	struct {
		struct config_list listen; /* ADDRESS:PORT or [V6]:PORT */
		char tls_certificate[CONFIG_TEXT_MAX];
		char tls_key[CONFIG_TEXT_MAX];
		enum config_tls_client tls_client;
		char tls_client_ca[CONFIG_TEXT_MAX];
		bool insecure;
		char public_url[CONFIG_TEXT_MAX];
		char token_file[CONFIG_TEXT_MAX]; /* "" = ROOT/tokens.ini */
	} api;
	struct {
		char root[CONFIG_TEXT_MAX];
		unsigned quota_percent; /* of the file system; 0 = quota_bytes holds */
		uint64_t quota_bytes;
		uint64_t durable_every_ms;
		enum config_when_full when_full;
		enum config_on_full on_full;
		enum config_measure measure;
		uint64_t spare_bytes; /* or one of the two below */
		uint64_t keep_ms;     /* 0 = for ever */
		bool delete_unuploaded;
	} storage;
	struct {
		bool endless;
		enum config_overload overload;
		enum config_degrade degrade;
		uint64_t ceiling_bytes; /* a second; 0 = auto */
	} capture;
	struct {
		enum config_hugepages hugepages;
		unsigned main_cpu;
		struct config_cpus rx_cpus;
		struct config_cpus writer_cpus;
		uint64_t block_memory_bytes; /* 0 = auto */
		bool sandbox;
	} engine;
	struct {
		unsigned simple;
	} sampling;
	struct {
		struct config_list allow; /* ADDRESS/BITS */
		unsigned rate_pps;
		unsigned source_port;
	} stream;
	struct {
		bool enabled;
		enum config_deliver deliver;
		unsigned full_concurrent;   /* 0 = no limit */
		unsigned simple_per_minute; /* 0 = no limit */
	} cloudflare;
	struct {
		bool enabled;
		struct config_list points;
		char node[CONFIG_NAME_MAX];
		char node_ip[CONFIG_NAME_MAX];
		enum config_nsx_format format;
	} nsx;
	struct {
		bool enabled;
		struct config_list interfaces;
	} citrix;
	struct {
		bool enabled;
		struct config_list devices;
		uint64_t url_ttl_ms;
	} mist;
	unsigned n_ports;
	struct config_port ports[CONFIG_PORTS_MAX];
	unsigned n_accounts;
	struct config_account accounts[CONFIG_ACCOUNTS_MAX];
	unsigned n_buckets;
	struct config_bucket buckets[CONFIG_BUCKETS_MAX];
};

/*
 * Read path, check every value and every rule between values. On failure err->text is the whole
 * message "file:line: key: what is wrong, what is allowed". The caller frees with config_free.
 */
struct config *config_load(const char *path, struct err *err);
void config_free(struct config *config);

/* Print every option with section, type, default, range, unit, restart needed and help. */
void config_help(FILE *out);

/* The port, account or bucket of that name (account: also by id), or NULL. */
const struct config_port *config_port_find(const struct config *config, const char *name);
const struct config_account *config_account_find(const struct config *config, const char *name);
const struct config_bucket *config_bucket_find(const struct config *config, const char *name);
/* The account ("*": any) may send its captures to the bucket. */
bool config_bucket_allows(
	const struct config *config, const struct config_bucket *bucket, const char *account);

#endif
