/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A DPDK device as a port: a NIC by its PCI address, or a virtual device by its arguments. open
 * makes the device, its queues and their memory on the main thread; start, stop and refresh run on
 * the device thread; rx and release on the queue's lcore. Pacing is not done here: rx.c asks for
 * fewer packets.
 */
#include "engine/port.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_bus.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_kvargs.h>
#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>
#include <rte_prefetch.h>

#include "config/log.h"
#include "engine/clock.h"
#include "engine/counter.h"
#include "engine/fault.h"
#include "engine/pcap_scan.h"

#define ETH_DESCRIPTORS      2048
#define FAULT_MBUFS_MAX      65536
#define ETH_MBUFS_MIN        4095U /* mempools are smallest at a power of two less one */
#define ETH_DATA_ROOM        2048U
#define ETH_FRAME_BYTES_MAX  UINT16_MAX
#define ETH_OVERHEAD_BYTES   26 /* Ethernet header, two VLAN tags, checksum */
#define ETH_SPREAD_NS_MAX    CLOCK_NS_PER_S
#define ETH_NIC_CLOCK_US     20000
#define ETH_AFPACKET_FRAME   2048 /* net_af_packet's default slot */
#define ETH_AFPACKET_HEADERS 66   /* of which these are not packet */

/*
 * What lives in a mempool's per-lcore cache is what the RX loop cycles through, last freed first
 * used: two bursts. A small hot set stays in L1/L2, and that is most of the speed at small frames.
 */
#define ETH_POOL_CACHE (2 * PORT_BURST_MAX)
/* Beside the frames of an endless file: bursts, and what the caches of two lcores may hold back. */
#define ETH_POOL_SPARE (8 * ETH_POOL_CACHE)

struct eth_queue {
	uint16_t eth_port;
	bool by_mac;
	bool nic_clock;
	bool nic;
	struct rte_ether_addr mac;
	int stamp_offset;    /* of the mbuf field with the NIC's time */
	uint64_t stamp_flag; /* the mbuf has it */
	const struct clock_conv *clock;
	struct rte_mempool *pool;
};

/* What config->device says, besides what the driver alone understands. */
struct eth_args {
	char name[RTE_DEV_NAME_MAX_LEN];
	struct rte_kvargs *list; /* NULL: none */
};

struct eth_port {
	uint16_t id;
	bool probed; /* by us: remove it at the end */
	bool attached;
	bool watched;
	bool nic;
	struct rte_device *device;
	struct clock_conv clock; /* NIC ticks to wall clock */
	struct rte_eth_stats last;
	struct pcap_scan files; /* of those it replays, the most frames and the longest */
	struct eth_queue queues[PORT_QUEUES_MAX];
};

/* How the memory of one queue looks. */
struct eth_memory {
	unsigned mbufs;
	unsigned room_bytes;
};

/*
 * What is known of how drivers see loss. Files and generators lose nothing; NICs count in hardware
 * what they had no descriptor for. Who is not listed counts some of it.
 */
static const struct eth_driver {
	const char *name;
	enum port_loss loss;
} eth_drivers[] = {
	{"mlx5_pci", PORT_LOSS_EXACT},
	{"net_af_packet", PORT_LOSS_NONE}, /* 22.11 reports 0 missed, whatever was lost */
	{"net_af_xdp", PORT_LOSS_LOWER_BOUND},
	{"net_atlantic", PORT_LOSS_EXACT},
	{"net_bnxt", PORT_LOSS_EXACT},
	{"net_cxgbe", PORT_LOSS_EXACT},
	{"net_e1000_em", PORT_LOSS_EXACT},
	{"net_e1000_igb", PORT_LOSS_EXACT},
	{"net_i40e", PORT_LOSS_EXACT},
	{"net_ice", PORT_LOSS_EXACT},
	{"net_igc", PORT_LOSS_EXACT},
	{"net_ixgbe", PORT_LOSS_EXACT},
	{"net_null", PORT_LOSS_EXACT},
	{"net_pcap", PORT_LOSS_EXACT}, /* from files; from interfaces a lower bound */
	{"net_qede", PORT_LOSS_EXACT},
	{"net_ring", PORT_LOSS_EXACT},
	{"net_sfc_efx", PORT_LOSS_EXACT},
};

/* Main thread: which DPDK ports are ours already. */
static bool eth_taken[RTE_MAX_ETHPORTS];

static int args_parse(const char *device, struct eth_args *args, struct err *err);
static const char *args_get(const struct eth_args *args, const char *key);
static int device_attach(struct port *port, const struct eth_args *args, struct err *err);
static void device_describe(
	struct port *port, const struct eth_args *args, const struct rte_eth_dev_info *info);
static int device_configure(struct port *port, const struct eth_args *args,
	struct rte_eth_dev_info *info, struct rte_eth_conf *conf, struct err *err);
static int check_queues(const struct port *port, const struct eth_args *args,
	const struct rte_eth_dev_info *info, struct err *err);
static int check_files(const struct port *port, const struct eth_args *args,
	struct pcap_scan *largest, struct err *err);
static int memory_plan(const struct port *port, const struct eth_args *args, bool scatter,
	uint16_t descriptors, struct eth_memory *plan, struct err *err);
static int queue_setup(struct port *port, unsigned index, uint16_t descriptors,
	const struct eth_memory *plan, const struct rte_eth_rxconf *rxconf, struct err *err);
static void nic_clock_start(struct port *port);
static int nic_clock_read(const struct eth_port *eth, uint64_t *ticks, uint64_t *wall_ns);
static int on_removal(uint16_t id, enum rte_eth_event_type type, void *arg, void *ret);
static void packets_prefetch(const struct burst *burst);
static void stamps_spread(struct burst *burst, uint64_t before_ns, uint64_t now_ns);
static void stamps_nic(const struct eth_queue *queue, struct burst *burst);
static bool burst_simple(const struct burst *burst, const struct rte_mempool *pool);
static uint64_t own_packets(const struct eth_queue *queue, const struct burst *burst);
static void read_stats(struct port *port);
static void read_link(struct port *port);
static void publish(uint64_t *counter, uint64_t now, uint64_t *last);

static int eth_open(struct port *port, struct err *err)
{
	struct eth_port *eth = calloc(1, sizeof(*eth));
	struct rte_eth_dev_info info;
	struct rte_eth_conf conf = {0};
	struct eth_args args = {0};
	struct eth_memory plan;
	uint16_t rx_descriptors = ETH_DESCRIPTORS, tx_descriptors = 0;
	int rc;

	if (eth == NULL)
		return err_set(err, ENOMEM, NULL, "out of memory");
	port->priv = eth;
	rc = args_parse(port->config->device, &args, err);
	/* Before the driver opens the files: its own complaint would say less. */
	if (rc == 0)
		rc = check_files(port, &args, &eth->files, err);
	if (rc == 0)
		rc = device_attach(port, &args, err);
	if (rc == 0 && rte_eth_dev_info_get(eth->id, &info) != 0)
		rc = err_set(err, EIO, "device", "device %s does not describe itself", args.name);
	if (rc == 0) {
		device_describe(port, &args, &info);
		rc = check_queues(port, &args, &info, err);
	}
	if (rc == 0 && port_queues_new(port, port->config->rx_queues) != 0)
		rc = err_set(err, ENOMEM, NULL, "out of memory");
	if (rc == 0)
		rc = device_configure(port, &args, &info, &conf, err);
	if (rc == 0)
		rte_eth_dev_adjust_nb_rx_tx_desc(eth->id, &rx_descriptors, &tx_descriptors);
	if (rc == 0)
		rc = memory_plan(port, &args, conf.rxmode.offloads & RTE_ETH_RX_OFFLOAD_SCATTER,
			rx_descriptors, &plan, err);
	info.default_rxconf.offloads = conf.rxmode.offloads;
	for (unsigned i = 0; rc == 0 && i < port->n_queues; i++)
		rc = queue_setup(port, i, rx_descriptors, &plan, &info.default_rxconf, err);
	if (rc == 0) {
		rte_eth_stats_reset(eth->id);
		rte_eth_stats_get(eth->id, &eth->last);
		eth->watched = rte_eth_dev_callback_register(
				       eth->id, RTE_ETH_EVENT_INTR_RMV, on_removal, port) == 0;
		read_link(port);
	}
	rte_kvargs_free(args.list);
	return rc;
}

static int eth_start(struct port *port, struct err *err)
{
	struct eth_port *eth = port->priv;
	int rc;

	if (__atomic_load_n(&port->gone, __ATOMIC_RELAXED))
		return err_set(
			err, ENODEV, "device", "device %s was removed", port->config->device);
	rc = rte_eth_dev_start(eth->id);
	if (rc != 0)
		return err_set(err, -rc, "device", "device %s cannot be started: %s",
			port->config->device, rte_strerror(-rc));
	/* Files and generators have no such thing, and do without. */
	rc = rte_eth_promiscuous_enable(eth->id);
	if (rc != 0 && eth->nic)
		log_warning("device is not promiscuous port=%s reason=%s", port->config->name,
			rte_strerror(-rc));
	if (port->own_clock)
		nic_clock_start(port);
	for (unsigned i = 0; i < port->n_queues; i++)
		port->queues[i].poll_before_tsc = 0;
	read_link(port);
	return 0;
}

static void eth_stop(struct port *port)
{
	struct eth_port *eth = port->priv;

	/* Some drivers forget their counters when they are stopped. */
	read_stats(port);
	rte_eth_dev_stop(eth->id);
	__atomic_store_n(&port->link_up, false, __ATOMIC_RELAXED);
}

static void eth_close(struct port *port)
{
	struct eth_port *eth = port->priv;

	if (eth == NULL)
		return;
	if (eth->watched)
		rte_eth_dev_callback_unregister(eth->id, RTE_ETH_EVENT_INTR_RMV, on_removal, port);
	if (eth->attached) {
		rte_eth_dev_close(eth->id);
		eth_taken[eth->id] = false;
	}
	if (eth->probed && eth->device != NULL)
		rte_dev_remove(eth->device);
	for (unsigned i = 0; i < PORT_QUEUES_MAX; i++)
		rte_mempool_free(eth->queues[i].pool);
	port_queues_free(port);
	free(eth);
	port->priv = NULL;
}

static unsigned queue_burst(
	struct eth_queue *queue, uint16_t index, struct rte_mbuf **pkts, unsigned max)
{
#ifdef SLUICE_FAULT_POINTS
	static __thread void *held[FAULT_MBUFS_MAX];
	unsigned n_held = 0, n;

	/* The driver finds none where it looks for one. */
	if (fault_point(FAULT_mbuf_alloc) != 0) {
		while (n_held < FAULT_MBUFS_MAX && rte_mempool_get(queue->pool, &held[n_held]) == 0)
			n_held++;
		n = rte_eth_rx_burst(queue->eth_port, index, pkts, max);
		for (unsigned i = 0; i < n_held; i++)
			rte_mempool_put(queue->pool, held[i]);
		return n;
	}
#endif
	return rte_eth_rx_burst(queue->eth_port, index, pkts, max);
}

static unsigned eth_rx(struct port_queue *port_queue, struct burst *burst, unsigned max)
{
	struct eth_queue *queue = port_queue->priv;
	uint64_t before_tsc = port_queue->poll_before_tsc;
	uint64_t now_tsc;

	burst->n = queue_burst(queue, port_queue->index, burst->pkts, max);
	if (queue->nic)
		packets_prefetch(burst);
	burst->outbound = 0;
	burst->cut = 0;
	now_tsc = rte_rdtsc();
	if (burst->n > 0) {
		stamps_spread(burst, clock_tsc_to_ns(before_tsc != 0 ? before_tsc : now_tsc),
			clock_tsc_to_ns(now_tsc));
		if (queue->nic_clock)
			stamps_nic(queue, burst);
		if (queue->by_mac)
			burst->outbound = own_packets(queue, burst);
	}
	port_queue->poll_before_tsc = now_tsc;
	return burst->n;
}

static void eth_release(struct port_queue *port_queue, struct burst *burst)
{
	const struct eth_queue *queue = port_queue->priv;

	if (likely(burst_simple(burst, queue->pool)))
		rte_mempool_put_bulk(queue->pool, (void *const *)burst->pkts, burst->n);
	else
		rte_pktmbuf_free_bulk(burst->pkts, burst->n);
	burst->n = 0;
}

static void read_mbufs(struct port *port)
{
	const struct eth_port *eth = port->priv;
	uint32_t all = 0, left = 0;

	for (unsigned i = 0; i < port->n_queues; i++) {
		all += eth->queues[i].pool->size;
		left += rte_mempool_avail_count(eth->queues[i].pool);
	}
	__atomic_store_n(&port->mbufs, all, __ATOMIC_RELAXED);
	__atomic_store_n(&port->mbufs_free, left, __ATOMIC_RELAXED);
}

static void eth_refresh(struct port *port)
{
	struct eth_port *eth = port->priv;
	uint64_t ticks, wall_ns;

	if (rte_eth_dev_is_removed(eth->id) == 1)
		__atomic_store_n(&port->gone, true, __ATOMIC_RELAXED);
	read_stats(port);
	read_link(port);
	read_mbufs(port);
	if (eth->queues[0].nic_clock && nic_clock_read(eth, &ticks, &wall_ns) == 0)
		clock_conv_sync(&eth->clock, ticks, wall_ns);
}

const struct port_ops port_eth_ops = {
	.kind = "device",
	.open = eth_open,
	.start = eth_start,
	.stop = eth_stop,
	.close = eth_close,
	.rx = eth_rx,
	.release = eth_release,
	.refresh = eth_refresh,
};

static int args_parse(const char *device, struct eth_args *args, struct err *err)
{
	size_t len = strcspn(device, ",");

	if (len == 0 || len >= sizeof(args->name))
		return err_set(err, EINVAL, "device",
			"\"%s\" is no device; a PCI address (0000:3b:00.0) or a driver's name with "
			"a "
			"number and its arguments (net_pcap0,rx_pcap=FILE) is allowed",
			device);
	memcpy(args->name, device, len);
	if (device[len] == '\0' || device[len + 1] == '\0')
		return 0;
	args->list = rte_kvargs_parse(device + len + 1, NULL);
	if (args->list == NULL)
		return err_set(err, EINVAL, "device",
			"\"%s\": arguments are KEY=VALUE, separated by commas", device);
	return 0;
}

static const char *args_get(const struct eth_args *args, const char *key)
{
	return args->list != NULL ? rte_kvargs_get(args->list, key) : NULL;
}

static int device_attach(struct port *port, const struct eth_args *args, struct err *err)
{
	const char *device = port->config->device;
	struct eth_port *eth = port->priv;
	struct rte_eth_dev_info info;
	int rc;

	if (rte_eth_dev_get_port_by_name(args->name, &eth->id) != 0) {
		rc = rte_dev_probe(device);
		if (rc != 0)
			return err_set(err, -rc, "device", "device %s cannot be made: %s", device,
				rte_strerror(-rc));
		eth->probed = true;
		if (rte_eth_dev_get_port_by_name(args->name, &eth->id) != 0) {
			struct rte_dev_iterator it;

			eth->id = RTE_MAX_ETHPORTS;
			RTE_ETH_FOREACH_MATCHING_DEV(eth->id, args->name, &it)
			{
				rte_eth_iterator_cleanup(&it);
				break;
			}
		}
	}
	if (eth->id >= RTE_MAX_ETHPORTS || rte_eth_dev_info_get(eth->id, &info) != 0)
		return err_set(err, ENODEV, "device", "device %s is no network device", device);
	eth->device = info.device;
	if (eth_taken[eth->id])
		return err_set(
			err, EBUSY, "device", "device %s is another port already", args->name);
	eth_taken[eth->id] = true;
	eth->attached = true;
	return 0;
}

static void device_describe(
	struct port *port, const struct eth_args *args, const struct rte_eth_dev_info *info)
{
	struct eth_port *eth = port->priv;
	struct rte_ether_addr mac;

	snprintf(port->driver, sizeof(port->driver), "%s", info->driver_name);
	eth->nic = strcmp(rte_bus_name(rte_dev_bus(info->device)), "vdev") != 0;
	port->has_mac = eth->nic && rte_eth_macaddr_get(eth->id, &mac) == 0;
	if (port->has_mac)
		memcpy(port->mac, mac.addr_bytes, sizeof(port->mac));
	/* A promiscuous NIC sees what its own host sends only where it is looped back; what carries
	 * our address as its source then is that. */
	port->direction = port->has_mac ? PORT_DIRECTION_BY_MAC : PORT_DIRECTION_NONE;
	port->loss = PORT_LOSS_LOWER_BOUND;
	for (unsigned i = 0; i < RTE_DIM(eth_drivers); i++)
		if (strcmp(port->driver, eth_drivers[i].name) == 0)
			port->loss = eth_drivers[i].loss;
	if (strcmp(port->driver, "net_pcap") == 0 && args_get(args, "rx_pcap") == NULL)
		port->loss = PORT_LOSS_LOWER_BOUND;
}

static int check_queues(const struct port *port, const struct eth_args *args,
	const struct rte_eth_dev_info *info, struct err *err)
{
	const struct eth_port *eth = port->priv;
	unsigned n = port->config->rx_queues;
	unsigned files = args->list != NULL ? rte_kvargs_count(args->list, "rx_pcap") : 0;

	if (files > 0 && n != files)
		return err_set(err, EINVAL, "rx_queues",
			"%u, but device %s has %u rx_pcap: it must be as many", n, args->name,
			files);
	if (n == 0 || n > info->max_rx_queues || n > PORT_QUEUES_MAX)
		return err_set(err, EINVAL, "rx_queues", "%u, but device %s allows 1 to %u", n,
			args->name, RTE_MIN(info->max_rx_queues, PORT_QUEUES_MAX));
	if (n > 1 && eth->nic && info->flow_type_rss_offloads == 0)
		return err_set(err, EINVAL, "rx_queues",
			"%u, but device %s cannot spread packets (no RSS): 1 is allowed", n,
			args->name);
	return 0;
}

/* Queues, MTU, and of the offloads only those that help to get each packet whole: VLAN tags,
 * checksums and segments stay as they came. */
static int device_configure(struct port *port, const struct eth_args *args,
	struct rte_eth_dev_info *info, struct rte_eth_conf *conf, struct err *err)
{
	const uint64_t wanted = RTE_ETH_RX_OFFLOAD_SCATTER | RTE_ETH_RX_OFFLOAD_TIMESTAMP;
	const uint64_t spread =
		RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_SCTP;
	struct eth_port *eth = port->priv;
	struct eth_queue *first = &eth->queues[0];
	int rc;

	if (port->config->mtu < info->min_mtu || port->config->mtu > info->max_mtu)
		return err_set(err, EINVAL, "mtu", "%u, but device %s allows %u to %u",
			port->config->mtu, args->name, info->min_mtu, info->max_mtu);
	conf->rxmode.mtu = port->config->mtu;
	conf->rxmode.offloads = info->rx_offload_capa & wanted;
	if (port->n_queues > 1 && (info->flow_type_rss_offloads & spread) != 0) {
		conf->rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf->rx_adv_conf.rss_conf.rss_hf = info->flow_type_rss_offloads & spread;
	}
	if ((conf->rxmode.offloads & RTE_ETH_RX_OFFLOAD_TIMESTAMP) != 0 &&
		rte_mbuf_dyn_rx_timestamp_register(&first->stamp_offset, &first->stamp_flag) != 0)
		conf->rxmode.offloads &= ~RTE_ETH_RX_OFFLOAD_TIMESTAMP;
	port->own_clock = (conf->rxmode.offloads & RTE_ETH_RX_OFFLOAD_TIMESTAMP) != 0;
	rc = rte_eth_dev_configure(eth->id, port->n_queues, 0, conf);
	if (rc != 0)
		return err_set(err, -rc, "device",
			"device %s refuses %u queues with an MTU of %u: %s", args->name,
			port->n_queues, port->config->mtu, rte_strerror(-rc));
	/* A NIC that stamps but does not let its clock be read cannot be brought to wall-clock
	 * time. */
	if (port->own_clock) {
		uint64_t ticks, wall_ns;

		rc = nic_clock_read(eth, &ticks, &wall_ns);
		port->own_clock = rc != -ENOTSUP;
	}
	return 0;
}

struct file_check {
	struct pcap_scan *largest;
	const char *port;
	struct err *err;
	int rc;
};

static int check_file(const char *key, const char *path, void *arg)
{
	struct file_check *check = arg;
	struct pcap_scan scan;

	check->rc = pcap_scan(path, &scan, check->err);
	if (check->rc == 0 && scan.longest_bytes > ETH_FRAME_BYTES_MAX)
		check->rc = err_set(check->err, EINVAL, NULL,
			"%s has a frame of %u bytes; at most %u can be replayed", path,
			scan.longest_bytes, ETH_FRAME_BYTES_MAX);
	if (check->rc != 0)
		return -1;
	if (scan.cut > 0)
		log_warning("frames of a replayed file are shorter than they were, and their true "
			    "length is lost port=%s file=%s frames=%lu cut=%lu",
			check->port, path, scan.frames, scan.cut);
	check->largest->frames = RTE_MAX(check->largest->frames, scan.frames);
	check->largest->longest_bytes = RTE_MAX(check->largest->longest_bytes, scan.longest_bytes);
	return 0;
}

/* Every file that is to be replayed can be: the driver would shorten or fail without a reason. */
static int check_files(const struct port *port, const struct eth_args *args,
	struct pcap_scan *largest, struct err *err)
{
	struct file_check check = {.largest = largest, .port = port->config->name, .err = err};

	if (args->list != NULL)
		rte_kvargs_process(args->list, "rx_pcap", check_file, &check);
	if (check.rc != 0 && err != NULL)
		err_prefix(err, "device");
	return check.rc;
}

/*
 * 2 KiB of data room, longer frames chained. But net_pcap's endless mode keeps every frame of the
 * file in an mbuf of its own and refuses chains; net_null and net_af_packet fill an mbuf without
 * looking how much room it has; and a device that cannot scatter needs room for its MTU.
 */
static int memory_plan(const struct port *port, const struct eth_args *args, bool scatter,
	uint16_t descriptors, struct eth_memory *plan, struct err *err)
{
	const struct eth_port *eth = port->priv;
	bool file = strcmp(port->driver, "net_pcap") == 0;
	const char *endless = file ? args_get(args, "infinite_rx") : NULL;
	const char *size =
		args_get(args, strcmp(port->driver, "net_null") == 0 ? "size" : "framesz");
	unsigned frame_bytes = port->config->mtu + ETH_OVERHEAD_BYTES;
	unsigned slot_bytes = size != NULL ? strtoul(size, NULL, 0) : ETH_AFPACKET_FRAME;

	plan->mbufs = RTE_MAX(2U * descriptors, ETH_MBUFS_MIN);
	plan->room_bytes = RTE_MAX(ETH_DATA_ROOM, size != NULL ? slot_bytes : 0U);
	if (!scatter && !file)
		plan->room_bytes = RTE_MAX(plan->room_bytes, frame_bytes);
	if (endless != NULL && atoi(endless) == 1) {
		plan->mbufs = eth->files.frames + ETH_POOL_SPARE;
		plan->room_bytes = RTE_MAX(eth->files.longest_bytes, 64U);
	}
	if (strcmp(port->driver, "net_af_packet") == 0 &&
		slot_bytes < frame_bytes + ETH_AFPACKET_HEADERS)
		return err_set(err, EINVAL, "device",
			"framesz=%u would cut frames at an MTU of %u; at least %u is allowed "
			"(\"interface =\" watches the interface without such limits)",
			slot_bytes, port->config->mtu, frame_bytes + ETH_AFPACKET_HEADERS);
	if (plan->room_bytes > UINT16_MAX - RTE_PKTMBUF_HEADROOM)
		return err_set(err, EINVAL, "device",
			"frames of %u bytes do not fit into one buffer, and device %s cannot chain "
			"them; at most %u is allowed",
			plan->room_bytes, args->name, UINT16_MAX - RTE_PKTMBUF_HEADROOM);
	return 0;
}

static int queue_setup(struct port *port, unsigned index, uint16_t descriptors,
	const struct eth_memory *plan, const struct rte_eth_rxconf *rxconf, struct err *err)
{
	struct eth_port *eth = port->priv;
	struct eth_queue *queue = &eth->queues[index];
	int socket = rte_eth_dev_socket_id(eth->id);
	char name[RTE_MEMPOOL_NAMESIZE];
	int rc;

	*queue = (struct eth_queue){
		.eth_port = eth->id,
		.by_mac = port->direction == PORT_DIRECTION_BY_MAC,
		.nic = eth->nic,
		.stamp_offset = eth->queues[0].stamp_offset,
		.stamp_flag = eth->queues[0].stamp_flag,
		.clock = &eth->clock,
	};
	memcpy(queue->mac.addr_bytes, port->mac, sizeof(port->mac));
	port->queues[index].priv = queue;
	snprintf(name, sizeof(name), "port%u.%u", eth->id, index);
	queue->pool = rte_pktmbuf_pool_create(name, plan->mbufs, ETH_POOL_CACHE, 0,
		plan->room_bytes + RTE_PKTMBUF_HEADROOM, socket);
	if (queue->pool == NULL)
		return err_set(err, rte_errno, "device",
			"no memory for %u packets of %u bytes for queue %u of device %s: %s",
			plan->mbufs, plan->room_bytes, index, port->config->device,
			rte_strerror(rte_errno));
	rc = rte_eth_rx_queue_setup(eth->id, index, descriptors, socket, rxconf, queue->pool);
	if (rc != 0)
		return err_set(err, -rc, "device", "queue %u of device %s cannot be made: %s",
			index, port->config->device, rte_strerror(-rc));
	return 0;
}

/* Some clocks run only while the device does. */
static void nic_clock_start(struct port *port)
{
	const struct timespec pause = {.tv_nsec = ETH_NIC_CLOCK_US * 1000};
	struct eth_port *eth = port->priv;
	uint64_t begin, end, begin_ns, end_ns;
	bool runs;

	runs = nic_clock_read(eth, &begin, &begin_ns) == 0 && nanosleep(&pause, NULL) == 0 &&
	       nic_clock_read(eth, &end, &end_ns) == 0 && end > begin && end_ns > begin_ns;
	if (runs)
		clock_conv_init(&eth->clock,
			(double)(end - begin) * CLOCK_NS_PER_S / (end_ns - begin_ns), end, end_ns);
	else
		log_warning("the device's clock does not run, packets carry the time of the poll "
			    "port=%s",
			port->config->name);
	for (unsigned i = 0; i < port->n_queues; i++)
		eth->queues[i].nic_clock = runs;
}

static int nic_clock_read(const struct eth_port *eth, uint64_t *ticks, uint64_t *wall_ns)
{
	uint64_t before_ns = clock_wall_ns();
	int rc = rte_eth_read_clock(eth->id, ticks);

	*wall_ns = before_ns + (clock_wall_ns() - before_ns) / 2;
	return rc;
}

/* DPDK's interrupt thread. */
static int on_removal(uint16_t id, enum rte_eth_event_type type, void *arg, void *ret)
{
	struct port *port = arg;

	__atomic_store_n(&port->gone, true, __ATOMIC_RELAXED);
	return 0;
}

/* What a NIC has written is in no cache of this core yet; filters and framing ask for it soon. */
static void packets_prefetch(const struct burst *burst)
{
	for (unsigned i = 0; i < burst->n; i++)
		rte_prefetch0(rte_pktmbuf_mtod(burst->pkts[i], const void *));
}

/*
 * The packets came some time between the two polls: give them evenly spaced times in it, the last
 * one now. After a long silence, or when the wall clock was stepped in between, that would be a
 * fairy tale.
 */
static void stamps_spread(struct burst *burst, uint64_t before_ns, uint64_t now_ns)
{
	uint64_t span_ns = now_ns - before_ns, step, since = 0;

	if (unlikely(span_ns > ETH_SPREAD_NS_MAX)) {
		before_ns = now_ns;
		span_ns = 0;
	}
	step = (span_ns << 24) / burst->n;
	for (unsigned i = 0; i < burst->n; i++) {
		since += step;
		burst->stamp_ns[i] = before_ns + (since >> 24);
	}
	burst->stamp_ns[burst->n - 1] = now_ns;
}

/* Packets that the NIC did not stamp keep the time of the poll. */
static void stamps_nic(const struct eth_queue *queue, struct burst *burst)
{
	for (unsigned i = 0; i < burst->n; i++) {
		const struct rte_mbuf *pkt = burst->pkts[i];

		if ((pkt->ol_flags & queue->stamp_flag) != 0)
			burst->stamp_ns[i] = clock_conv_ns(
				queue->clock, *RTE_MBUF_DYNFIELD(pkt, queue->stamp_offset,
						      const rte_mbuf_timestamp_t *));
	}
}

_Static_assert(offsetof(struct rte_mbuf, nb_segs) == offsetof(struct rte_mbuf, refcnt) + 2,
	"both counts are read as one word");

/*
 * Whether all of a burst can go back to its pool as it is: no chains, clones or foreign memory. No
 * branch per packet. Against rte_pktmbuf_free_bulk alone it takes net_null from 44 to 51 Mpps.
 */
static bool burst_simple(const struct burst *burst, const struct rte_mempool *pool)
{
	uint64_t odd = 0;

	for (unsigned i = 0; i < burst->n; i++) {
		const struct rte_mbuf *pkt = burst->pkts[i];
		uint32_t counts;

		memcpy(&counts, &pkt->refcnt, sizeof(counts));
		odd |= (counts ^ 0x00010001) | ((uintptr_t)pkt->pool ^ (uintptr_t)pool) |
		       (pkt->ol_flags & (RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL));
	}
	return odd == 0;
}

static uint64_t own_packets(const struct eth_queue *queue, const struct burst *burst)
{
	uint64_t own = 0;

	for (unsigned i = 0; i < burst->n; i++) {
		const struct rte_ether_hdr *header =
			rte_pktmbuf_mtod(burst->pkts[i], const struct rte_ether_hdr *);

		if (likely(burst->pkts[i]->data_len >= sizeof(*header)))
			own |= (uint64_t)rte_is_same_ether_addr(&header->src_addr, &queue->mac)
			       << i;
	}
	return own;
}

static void read_stats(struct port *port)
{
	struct eth_port *eth = port->priv;
	struct rte_eth_stats now, before = eth->last;

	if (rte_eth_stats_get(eth->id, &now) != 0)
		return;
	publish(&port->nic_missed, now.imissed, &eth->last.imissed);
	publish(&port->nic_errors, now.ierrors, &eth->last.ierrors);
	publish(&port->nic_nombuf, now.rx_nombuf, &eth->last.rx_nombuf);
	/* What was offered to the device, by the device's own four counters. */
	publish(&port->offered, now.ipackets, &eth->last.ipackets);
	publish(&port->rx_bytes, now.ibytes, &eth->last.ibytes);
	publish(&port->offered, now.imissed, &before.imissed);
	publish(&port->offered, now.ierrors, &before.ierrors);
	publish(&port->offered, now.rx_nombuf, &before.rx_nombuf);
}

static void read_link(struct port *port)
{
	const struct eth_port *eth = port->priv;
	struct rte_eth_link link = {0};
	uint32_t speed_mbps;
	uint16_t mtu;

	if (rte_eth_link_get_nowait(eth->id, &link) != 0)
		link.link_status = RTE_ETH_LINK_DOWN;
	speed_mbps = link.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : link.link_speed;
	if (rte_eth_dev_get_mtu(eth->id, &mtu) == 0)
		__atomic_store_n(&port->mtu, mtu, __ATOMIC_RELAXED);
	__atomic_store_n(&port->speed_mbps, speed_mbps, __ATOMIC_RELAXED);
	__atomic_store_n(&port->link_up,
		link.link_status == RTE_ETH_LINK_UP &&
			!__atomic_load_n(&port->gone, __ATOMIC_RELAXED),
		__ATOMIC_RELAXED);
}

/* A counter that went back was reset by its driver. */
static void publish(uint64_t *counter, uint64_t now, uint64_t *last)
{
	COUNTER_ADD(*counter, now >= *last ? now - *last : now);
	*last = now;
}
