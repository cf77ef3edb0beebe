/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Lines of the listings, which are printed from plain data.
 */
#ifndef RMAPVIZ_LINES_H
#define RMAPVIZ_LINES_H

struct rv_emit;
struct rv_survey_line;
struct rv_family_line;

void rv_print_survey_heading(struct rv_emit *e);
void rv_print_survey_line(struct rv_emit *e, const struct rv_survey_line *told);

void rv_print_family_heading(struct rv_emit *e);
void rv_print_family_line(struct rv_emit *e, const struct rv_family_line *line);

#endif /* RMAPVIZ_LINES_H */
