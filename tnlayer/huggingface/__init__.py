"""Compressed models in transformers' own files: importing this registers the quantizer "tnlayer".

``pip install 'tnlayer[hf]'``. :func:`tnlayer.compress` does it for models of transformers, so that
``save_pretrained`` works at once; a process that loads such a model imports this first::

    import tnlayer.huggingface
    model = AutoModelForCausalLM.from_pretrained(folder)
"""

from .quantizer import register

register()
