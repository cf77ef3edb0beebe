/* SPDX-License-Identifier: GPL-2.0 */
/*
 * rmapviz - who maps a physical page, and what it costs to find out
 *
 * Data flows one way, and rmapviz.c has one function that calls every step:
 *
 *	query -> walk -> (verify) -> names -> order -> judgements -> report
 *
 * Here are the steps, the version and the limits.  The records that they hand
 * on are in rmapviz_snap.h; what the first steps share is in rmapviz_collect.h.
 */
#ifndef RMAPVIZ_H
#define RMAPVIZ_H

#include <linux/types.h>

struct rv_query;
struct rv_snap;
struct seq_file;

#define RV_VERSION "0.1.0"

/* No table grows past this, which bounds memory. */
#define RV_RECORDS_MAX 1000000U

/* Attempts before -EAGAIN; the waits between them add up to half a second. */
#define RV_ATTEMPTS 64

int rv_ksym_init(void);

int rv_query_parse(struct rv_query *q, const char *buf, size_t len);
struct rv_snap *rv_walk(const struct rv_query *q);
int rv_verify(struct rv_snap *s);
int rv_name_files(struct rv_snap *s);
int rv_name_processes(struct rv_snap *s);
int rv_put_in_order(struct rv_snap *s);
void rv_judge_reclaim(struct rv_snap *s);
void rv_judge_migrate(struct rv_snap *s);
int rv_judge_history(struct rv_snap *s);

void rv_report_prepare(struct rv_snap *s);
u32 rv_report_items(const struct rv_snap *s);
u32 rv_report_next(const struct rv_snap *s, u32 item);
void rv_report_show(struct seq_file *m, const struct rv_snap *s, u32 item);
void rv_report_usage(struct seq_file *m);

void rv_snap_free(struct rv_snap *s);

#endif /* RMAPVIZ_H */
