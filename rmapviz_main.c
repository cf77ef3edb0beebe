// SPDX-License-Identifier: GPL-2.0
/*
 * rmapviz.c, compiled to an object of another name: rmapviz.o is what Kbuild
 * links from all objects of the module.
 */
#include "rmapviz.c"
