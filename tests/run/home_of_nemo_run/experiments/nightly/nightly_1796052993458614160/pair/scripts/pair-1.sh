#!/usr/bin/bash
echo second