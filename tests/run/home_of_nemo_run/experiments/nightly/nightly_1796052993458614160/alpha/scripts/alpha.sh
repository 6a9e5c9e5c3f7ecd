#!/usr/bin/bash
echo hello from alpha