/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The configuration that targets of the API are judged by.
 */
#include "fuzz.h"

#include <string.h>

#include "config/config.h"
#include "fake.h"

static void account_make(struct config_account *account, const char *name, const char *id)
{
	strcpy(account->name, name);
	strcpy(account->id, id);
	strcpy(account->site_id, "67970e46-4e12-11e6-9188-0242ac110007");
	strcpy(account->org_id, "a9346fba-f920-e99a-cc51-2e8dcc57fa3c");
	strcpy(account->colo, "ord02");
	account->ports.n = 1;
	strcpy(account->ports.item[0], "*");
}

struct config *fuzz_config(void)
{
	static struct config config;

	if (config.n_ports != 0)
		return &config;
	config.cloudflare.enabled = config.nsx.enabled = true;
	config.citrix.enabled = config.mist.enabled = true;
	config.capture.endless = true;
	config.sampling.simple = 100;
	config.n_ports = 2;
	for (unsigned i = 0; i < config.n_ports; i++) {
		snprintf(config.ports[i].name, sizeof(config.ports[i].name), "tap%u", i);
		strcpy(config.ports[i].interface, "lo");
		config.ports[i].snaplen_bytes = 262144;
	}
	config.n_accounts = 2;
	account_make(&config.accounts[0], "default", "023e105f4ecef8ad9ca31a8372d0c353");
	account_make(&config.accounts[1], "other", "123e105f4ecef8ad9ca31a8372d0c353");
	config.mist.devices.n = 1;
	strcpy(config.mist.devices.item[0], "5c5b35000010=tap0");
	config.citrix.interfaces.n = 1;
	strcpy(config.citrix.interfaces.item[0], "MGMT=tap0");
	config.nsx.points.n = 1;
	strcpy(config.nsx.points.item[0], "vmnic0=tap0");
	fake_start(&config, "/tmp");
	return &config;
}
