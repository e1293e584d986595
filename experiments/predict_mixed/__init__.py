"""Does one metanetwork rank networks of many architectures by test accuracy?"""
