#!/usr/bin/bash
echo first